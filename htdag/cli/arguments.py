"""The arguments that name runs: tags, patterns, ``--all``, or ``-`` for tags on standard input.

A command for several runs gets them from a decorator::

    @click.command()
    @takes_runs
    def remove(chosen: Chosen) -> int:
        return chosen.each(lambda run: run.remove())
"""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from htdag.checks import quantities, validation
from htdag.cli.console import DONE, say, status_of
from htdag.errors import HtdagError, OptionError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from htdag.run import Run

_WILD = "*?["
STAGE = click.option(
    "--stage", metavar="STAGE", help="Only this stage; it may follow the TAG, too."
)
STDIN = "-"


@dataclass(frozen=True)
class Chosen:
    """The runs that a command acts on.

    Attributes
    ----------
    runs : tuple of Run
        The runs in the order of the arguments; those of a pattern oldest first.
    several : bool
        Whether the arguments can name several runs: a pattern, ``--all``, ``-``, or more than one
        tag. JSON output is a list then, and otherwise one object, however many runs there are.
    """

    runs: tuple[Run, ...]
    several: bool

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def each(self, act: Callable[[Run], object]) -> int:
        """Call a function for each run, even if it fails for another one.

        Parameters
        ----------
        act : callable
            Takes a run. If it returns a whole number, this is an exit status.

        Returns
        -------
        int
            The highest exit status; errors are printed as they occur.
        """
        worst = DONE
        for run in self.runs:
            try:
                status = act(run)
            except HtdagError as error:
                if not self.several:
                    raise
                message = str(error)
                about = "" if repr(run.tag) in message else f"{run.tag}: "
                say(f"htdag: {about}{message}", err=True)
                status = status_of(error)
            if isinstance(status, int) and not isinstance(status, bool):
                worst = max(worst, status)
        return worst

    def head(self, run: Run) -> None:
        """Print the tag as a heading for the output of a run, if there can be several."""
        if self.several:
            say(f"== {run.tag}" if run is self.runs[0] else f"\n== {run.tag}")

    def json(self, contents: Sequence[Any]) -> Any:
        """Return the JSON output for the contents of each run."""
        return list(contents) if self.several else contents[0]


def takes_runs(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument ``TAG...`` and the option ``--all``.

    The command gets the runs as ``chosen``, a `Chosen`, which can be empty with ``--all``. It
    returns the exit status.
    """

    @click.argument("tags", metavar="TAG...", nargs=-1, shell_complete=complete_tags)
    @click.option("--all", "every", is_flag=True, help="All runs.")
    @functools.wraps(command)
    def with_runs(*, tags: tuple[str, ...], every: bool, **rest: Any) -> Any:
        return command(chosen=choose(tags, every), **rest)

    return with_runs


def takes_stage(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``TAG... [STAGE]``, ``--all`` and ``--stage``.

    The command gets them as ``chosen`` and ``stage``. A last argument that follows a tag and is not
    a tag itself is the stage.
    """

    @STAGE
    @click.argument("words", metavar="TAG... [STAGE]", nargs=-1, shell_complete=_complete_words)
    @click.option("--all", "every", is_flag=True, help="All runs.")
    @functools.wraps(command)
    def with_stage(*, words: tuple[str, ...], every: bool, stage: str | None, **rest: Any) -> Any:
        tags, name = _tags_and_stage(words, every) if stage is None else (words, stage)
        return command(chosen=choose(tags, every), stage=name, **rest)

    return with_stage


def _tags_and_stage(words: tuple[str, ...], every: bool) -> tuple[tuple[str, ...], str | None]:
    """Return the tags among the arguments of a command, and the stage that follows them."""
    from htdag.catalog.lookup import tags

    *others, last = words or ("",)
    if not (others or every) or not last or last == STDIN or is_pattern(last):
        return words, None
    if every:
        return tuple(others), last
    all_tags = list(tags())
    stages = [] if STDIN in others else _stages(others)
    if last not in stages:
        if last in all_tags or (STDIN not in others and not stages):
            return words, None  # a run, or a misspelt tag that is reported with the other tags
        if STDIN not in others:
            otherwise = f"stages: {', '.join(stages)}"
            hint = validation.did_you_mean(last, [*stages, *all_tags], otherwise)
            raise UsageError(f"{last!r} is neither a run nor a stage of {others[-1]!r}; {hint}")
    elif last in all_tags:
        raise UsageError(
            f"{last!r} is a run, and a stage of {others[-1]!r}: say --stage {shlex.quote(last)} "
            f"for the stage; for the run, give the command for each run by itself"
        )
    return tuple(others), last


def _stages(words: Sequence[str]) -> list[str]:
    """Return the stages and nodes of the runs that arguments name; ignore unknown runs."""
    names: dict[str, None] = {}
    for word in words:
        try:
            runs = _runs_of(word)
        except HtdagError:
            continue
        for run in runs:
            names.update(dict.fromkeys([*run.stages, *run.nodes]))
    return list(names)


def _complete_words(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the tags that begin with the typed text; after a tag, also stages of that run."""
    from click.shell_completion import CompletionItem

    words = context.params.get("words") or ()
    stages = [name for name in _stages(words) if name.startswith(incomplete)]
    items = [CompletionItem(_for_shell(name)) for name in stages]
    return items + complete_tags(context, parameter, incomplete)


def choose(tags: Sequence[str], every: bool) -> Chosen:
    """Return the runs that the arguments of a command name.

    Raises
    ------
    UsageError
        If they name none, or contradict each other.
    RunNotFound
        If no run has one of the tags.
    """
    import htdag

    if every:
        if tags:
            raise UsageError("--all means all runs: omit the tags, or --all")
        every_run = htdag.runs()
        if not every_run:
            say("htdag: there are no runs", err=True)
        return Chosen(tuple(every_run), True)
    words = with_stdin(tags)
    if not words:
        raise UsageError("name a run by its tag, several by tags or patterns, or --all of them")
    runs: dict[str, Run] = {}
    for word in words:
        runs.update((run.tag, run) for run in _runs_of(word))
    return Chosen(tuple(runs.values()), len(tags) > 1 or STDIN in tags or is_pattern(tags[0]))


def with_stdin(words: Sequence[str]) -> list[str]:
    """Return arguments with ``-`` replaced by the tags on standard input."""
    tags = list(words)
    if STDIN in tags:
        position = tags.index(STDIN)
        tags[position : position + 1] = [line.rstrip("\n") for line in sys.stdin if line.strip()]
        if not tags:
            raise UsageError("there is no tag on standard input")
    return tags


def is_pattern(word: str) -> bool:
    """Return whether a word is a pattern, which can match several tags."""
    return any(sign in word for sign in _WILD)


def _runs_of(word: str) -> list[Run]:
    import htdag

    if not is_pattern(word):
        return [htdag.load(word)]
    runs = [run for run in htdag.runs() if run.tag == word] or htdag.runs(word)
    if not runs:
        raise UsageError(f"no run's tag matches {word!r}")
    return runs


def complete_tags(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the tags that begin with the typed text, for the shell."""
    from click.shell_completion import CompletionItem

    from htdag.catalog.lookup import tags

    return [CompletionItem(_for_shell(tag)) for tag in tags() if tag.startswith(incomplete)]


def _for_shell(tag: str) -> str:
    """Return a tag as the shell needs it; bash inserts it literally, so it must be escaped."""
    import os
    import re

    words = os.environ.get("COMP_WORDS", "").split(" ")
    in_quotes = any(word.startswith(("'", '"')) for word in words[-1:])
    if os.environ.get("_HTDAG_COMPLETE") != "bash_complete" or in_quotes:
        return tag
    return re.sub(r"([^\w@%+=:,./-])", r"\\\1", tag)


class Age(click.ParamType[timedelta]):
    """A duration with its unit, such as 30d."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        text = value.strip()
        try:
            if not text[-1:].isalpha():  # the unit is unclear
                raise OptionError(text)
            return timedelta(seconds=quantities.duration(0)(text))
        except OptionError:
            self.fail(f"{value!r} is not a duration; give one such as 12h or 30d", param, ctx)


OLDER_THAN = click.option("--older-than", type=Age(), metavar="AGE", help="Such as 12h, 30d or 8w.")


TAG = click.argument("tag", metavar="TAG", shell_complete=complete_tags)
