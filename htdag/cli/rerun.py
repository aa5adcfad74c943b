"""The commands that continue or recompute runs, with their own functions or corrected ones."""

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
    help="With --script: keep the finished items of these stages (a,b; by default all), even if "
    "their functions changed.",
)
@click.option(
    "--wait", "then_wait", is_flag=True, help="Then wait for the run, as htdag wait does."
)
@NO_PROGRESS
def resume(
    chosen: Chosen,
    script: str | None,
    keep_finished: str | None,
    then_wait: bool,
    no_progress: bool,
) -> int:
    """Resume runs that failed, were removed or were killed.

    Finished items are kept; only missing ones are computed. The functions are those that the run
    was started with. To use corrected ones, edit the script and give --script: this runs the script
    again, and its pipeline continues this run. It reuses all stages whose code, items and relevant
    options are unchanged.

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
        raise click.UsageError("--keep-finished is for changed functions; it needs --script")
    if script is not None:
        if len(chosen) > 1:
            raise click.UsageError("--script resumes one run: name one tag")
        (run,) = chosen
        _run_script(run, script, keep_finished)
        chosen = Chosen((htdag.load(run.tag),), False)
        return wait_for(chosen, None, not no_progress) if then_wait else DONE

    def resume_one(run: Run) -> None:
        run.resume()
        if not then_wait:
            _report_start(run)

    worst = chosen.each(resume_one)
    return max(worst, wait_for(chosen, None, not no_progress)) if then_wait else worst


def _run_script(run: Run, script: str, keep_finished: str | None) -> None:
    """Run a script whose pipeline continues a run; exit as the script does if it fails."""
    run.directory.require_ended("resumed")
    command, folder = _command(run, script)
    stages = tuple(filter(None, (keep_finished or "").replace(" ", "").split(",")))
    with tempfile.TemporaryDirectory(prefix="htdag-resume-") as aside:
        receipt = Path(aside) / "acknowledged"
        request = resume_request.ScriptRequest(run.tag, run.pipeline_name, stages, str(receipt))
        environment = os.environ | {resume_request.VARIABLE: request.to_text()}
        status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        acknowledged = receipt.exists()
    if not acknowledged:
        raise UsageError(
            f"{shlex.join(command)} ended (with status {status}) and started no pipeline with the "
            f"tag {run.tag!r}, nor one named {run.pipeline_name!r} without a tag: the run is "
            f"unchanged"
        )
    if status != 0:
        sys.exit(FAILED)


def _command(run: Run, script: str) -> tuple[list[str], str | None]:
    """Return the command that starts a script, and its working directory; None: the current."""
    made = run.script
    if script:
        if not Path(script).is_file():
            raise UsageError(f"there is no script {script!r}")
        return [sys.executable, script, *(made["arguments"] if made else ())], None
    if made is None and run.directory.is_imported:
        raise UsageError(
            f"run {run.tag!r} was imported, and its script is not part of an export; "
            f"name a script: --script SCRIPT"
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


@click.command(short_help="Compute runs again, or parts of them.")
@takes_stage
@click.option(
    "--keys",
    metavar="KEY[,KEY...]",
    help="Only the items with these keys, and later items whose inputs change.",
)
@click.option("--errors", is_flag=True, help="Only the items that failed, skipped ones too.")
@click.option(
    "--wait", "then_wait", is_flag=True, help="Then wait for the run, as htdag wait does."
)
@NO_PROGRESS
def rerun(
    chosen: Chosen,
    stage: str | None,
    keys: str | None,
    errors: bool,
    then_wait: bool,
    no_progress: bool,
) -> int:
    """Compute runs again, or parts of them, with the same functions and items.

    With STAGE, only that stage and those that depend on it. A run keeps its old results in its
    directory until the new ones are done.

    \b
    Examples:
      htdag rerun "my survey"
      htdag rerun "my survey" calibrate
      htdag rerun "my survey" calibrate --keys 7,12
      htdag rerun "my survey" --errors --wait
    """
    from htdag.cli.runs import wait_for

    item_keys = None if keys is None else [key.strip() for key in keys.split(",") if key.strip()]
    started: list[Run] = []

    def rerun_one(run: Run) -> None:
        started.append(run.rerun(stage, item_keys, errors=errors))
        if not then_wait:
            _report_start(started[-1])

    worst = chosen.each(rerun_one)
    if then_wait and started:
        reruns = Chosen(tuple(started), chosen.several)
        worst = max(worst, wait_for(reruns, None, not no_progress))
    return worst


def _report_start(run: Run) -> None:
    if run.state.value == "done":
        say(f"run {run.tag!r} is done")
        return
    from htdag.show.bars import PLACES

    where = PLACES.get(run.backend_name, run.backend_name)
    say(
        f"run {run.tag!r} is running again {where}; to wait for it: "
        f"htdag wait {shlex.quote(run.tag)}"
    )


@click.group(cls=Verbs, short_help="List or clear the cache of stages.")
def cache() -> None:
    """List or clear the cache, which holds the results of stages with cache=True.

    \b
    Examples:
      htdag cache list
      htdag cache clear --older-than 30d
    """


@cache.command(name="list", short_help="List the entries of the cache.")
@JSON
def list_cache(as_json: bool) -> None:
    """List the entries of the cache: their last use, size, stages and run."""
    from htdag.reuse.cache import entries

    by_use = sorted(entries(), key=lambda entry: entry.used)
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
                for entry in by_use
            ]
        )
        return
    if not by_use:
        say("the cache is empty")
        return
    from htdag.show.cache import print_entries

    print_entries(by_use)


@cache.command()
@OLDER_THAN
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(older_than: timedelta | None, yes: bool) -> int:
    """Remove entries of the cache, or only those not used for long.

    Runs keep their own results.

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
    unused = [entry for entry in store.entries() if entry.used <= limit]
    if not unused:
        say("the cache is empty" if older_than is None else "no entry of the cache is that old")
        return DONE
    size = size_of_file(sum(entry.size for entry in unused))
    what = f"{len(unused)} {'entry' if len(unused) == 1 else 'entries'}, {size}"
    if not yes and not click.confirm(f"Remove {what}?", err=True):
        say("nothing was removed", err=True)
        return FAILED
    store.clear(age)
    say(f"removed {what}")
    return DONE
