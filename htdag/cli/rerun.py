"""The verbs that compute parts of a run again, with the functions it has or with corrected ones."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from htdag.cli.arguments import OLDER_THAN, Chosen, takes_runs, takes_stage
from htdag.cli.console import DONE, FAILED, JSON, NO_PROGRESS, print_json, say
from htdag.cli.main import Verbs
from htdag.errors import UsageError
from htdag.options import resume_request

if TYPE_CHECKING:
    from datetime import timedelta

    from htdag.run import Run


@click.command()
@takes_runs
@click.option(
    "--script",
    is_flag=False,
    flag_value="",
    metavar="[SCRIPT]",
    help="Run the corrected script: the one that made the run, or SCRIPT.",
)
@click.option(
    "--keep-finished",
    is_flag=False,
    flag_value="*",
    metavar="[STAGES]",
    help="With --script: finished items of these stages (a,b; or all) are right, though their "
    "functions changed.",
)
@click.option("--wait", "then_wait", is_flag=True, help="Then wait for it, as htdag wait does.")
@NO_PROGRESS
def resume(
    chosen: Chosen,
    script: str | None,
    keep_finished: str | None,
    then_wait: bool,
    no_progress: bool,
) -> int:
    """Go on with runs that failed, were removed or were killed.

    What is done is kept: only what is missing is computed. The functions are those that the run was
    started with. To use corrected ones, edit the script and give --script: the script is run again,
    and its pipeline goes on with this run. All stages whose code, options that matter and items are
    unchanged are reused.

    \b
    Examples:
      htdag resume "my survey"
      htdag resume "my survey" --wait
      htdag resume "my survey" --script
      htdag resume "my survey" --script survey.py --keep-finished calibrate
    """
    import htdag
    from htdag.cli.runs import wait_for

    if script is None and keep_finished is not None:
        raise click.UsageError("--keep-finished is about changed functions; it needs --script")
    if script is not None:
        if len(chosen) > 1:
            raise click.UsageError("--script goes on with one run: name one tag")
        (run,) = chosen
        _run_script(run, script, keep_finished)
        chosen = Chosen((htdag.load(run.tag),), False)
        return wait_for(chosen, None, not no_progress) if then_wait else DONE

    def go_on(run: Run) -> None:
        run.resume()
        if not then_wait:
            _tell(run)

    worst = chosen.each(go_on)
    return max(worst, wait_for(chosen, None, not no_progress)) if then_wait else worst


def _run_script(run: Run, script: str, keep_finished: str | None) -> None:
    """Run a script whose pipeline is to go on with a run, and end as it does where it fails."""
    run.directory.require_ended("gone on with")
    command, folder = _command(run, script)
    kept = tuple(filter(None, (keep_finished or "").replace(" ", "").split(",")))
    with tempfile.TemporaryDirectory(prefix="htdag-resume-") as aside:
        receipt = Path(aside) / "taken"
        wanted = resume_request.Wanted(run.tag, run.pipeline_name, kept, str(receipt))
        environment = os.environ | {resume_request.VARIABLE: wanted.to_text()}
        status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        taken = receipt.exists()
    if not taken:
        raise UsageError(
            f"{shlex.join(command)} ended (with status {status}) and started no pipeline with the "
            f"tag {run.tag!r}, nor one named {run.pipeline_name!r} without a tag: the run is as "
            f"it was"
        )
    if status != 0:
        sys.exit(FAILED)


def _command(run: Run, script: str) -> tuple[list[str], str | None]:
    """Return how a script is started, and the folder where; None for the current one."""
    made = run.script
    if script:
        if not Path(script).is_file():
            raise UsageError(f"there is no script {script!r}")
        return [sys.executable, script, *(made or {}).get("arguments", ())], None
    if made is None and run.directory.is_imported:
        raise UsageError(
            f"run {run.tag!r} was imported, and which script made it is not taken from there; "
            f"name it: --script SCRIPT"
        )
    if made is None:
        raise UsageError(
            f"run {run.tag!r} was made in a notebook or an interactive session, which cannot be "
            f"run again; there, use submit(tag={run.tag!r}, resume=True), or name a script: "
            f"--script SCRIPT"
        )
    if not Path(made["file"]).is_file():
        raise UsageError(
            f"the script {made['file']!r}, which made run {run.tag!r}, is gone; "
            f"name another one: --script SCRIPT"
        )
    if not Path(made["python"]).is_file():
        raise UsageError(
            f"{made['python']!r}, which ran the script of run {run.tag!r}, is gone; to run the "
            f"script by this Python: --script {shlex.quote(made['file'])}"
        )
    start = ["-m", made["module"]] if made["module"] else [made["file"]]
    return [made["python"], *start, *made["arguments"]], made["folder"]


@click.command(short_help="Compute runs, or parts of them, again.")
@takes_stage
@click.option(
    "--keys",
    metavar="KEY[,KEY...]",
    help="Only the items with these keys, and what comes out otherwise than before.",
)
@click.option("--errors", is_flag=True, help="Only the items that failed, skipped ones too.")
@click.option("--wait", "then_wait", is_flag=True, help="Then wait for it, as htdag wait does.")
@NO_PROGRESS
def rerun(
    chosen: Chosen,
    stage: str | None,
    keys: str | None,
    errors: bool,
    then_wait: bool,
    no_progress: bool,
) -> int:
    """Compute runs again, or a part of them, with the same functions and items.

    With STAGE only that, and what depends on it. What a run has is kept in its directory until the
    new one is done.

    \b
    Examples:
      htdag rerun "my survey"
      htdag rerun "my survey" calibrate
      htdag rerun "my survey" calibrate --keys 7,12
      htdag rerun "my survey" --errors --wait
    """
    from htdag.cli.runs import wait_for

    wanted = None if keys is None else [key.strip() for key in keys.split(",") if key.strip()]
    begun: list[Run] = []

    def begin(run: Run) -> None:
        begun.append(run.rerun(stage, wanted, errors=errors))
        if not then_wait:
            _tell(begun[-1])

    worst = chosen.each(begin)
    if then_wait and begun:
        again = Chosen(tuple(begun), chosen.several)
        worst = max(worst, wait_for(again, None, not no_progress))
    return worst


def _tell(run: Run) -> None:
    if run.state.value == "done":
        say(f"run {run.tag!r} is done")
        return
    from htdag.show.bars import PLACES

    where = PLACES.get(run.backend_name, run.backend_name)
    say(
        f"run {run.tag!r} is under way again {where}; to wait for it: "
        f"htdag wait {shlex.quote(run.tag)}"
    )


@click.group(cls=Verbs, short_help="Look at the cache of stages, or clear it.")
def cache() -> None:
    """Look at what stages with cache=True have finished, and clear it.

    \b
    Examples:
      htdag cache list
      htdag cache clear --older-than 30d
    """


@cache.command(name="list", short_help="List what is in the cache.")
@JSON
def list_cache(as_json: bool) -> None:
    """List what is in the cache: from which run, which stages, how large, when it was used last."""
    from htdag.reuse.cache import entries

    found = sorted(entries(), key=lambda entry: entry.used)
    if as_json:
        print_json(
            [
                {
                    "run": entry.tag,
                    "stages": list(entry.stages),
                    "bytes": entry.size,
                    "used": entry.used,
                    "path": str(entry.path),
                }
                for entry in found
            ]
        )
        return
    if not found:
        say("the cache is empty")
        return
    from htdag.show.cache import print_entries

    print_entries(found)


@cache.command()
@OLDER_THAN
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(older_than: timedelta | None, yes: bool) -> int:
    """Remove what is in the cache, or only what was not used for so long.

    Runs keep what is theirs.

    \b
    Examples:
      htdag cache clear
      htdag cache clear --older-than 30d --yes
    """
    import time

    from htdag.common.text import size_of_file
    from htdag.reuse import cache as store

    age = 0.0 if older_than is None else older_than.total_seconds()
    limit = time.time() - age
    found = [entry for entry in store.entries() if entry.used <= limit]
    if not found:
        say("the cache is empty" if older_than is None else "nothing in it is that old")
        return DONE
    size = size_of_file(sum(entry.size for entry in found))
    what = f"{len(found)} {'entry' if len(found) == 1 else 'entries'}, {size}"
    if not yes and not click.confirm(f"Remove {what}?", err=True):
        say("nothing was removed", err=True)
        return FAILED
    store.clear(age)
    say(f"removed {what}")
    return DONE
