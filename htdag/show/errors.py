"""Errors as text: in groups, or one by one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from shlex import quote

from htdag.observe.groups import HELD, ErrorGroup
from htdag.observe.item_errors import ItemError

_KEYS_SHOWN = 8
_HOSTS_SHOWN = 4
_LISTED = 12


def group_lines(
    groups: Sequence[ErrorGroup], limit: int, *, ended: bool, tag: str
) -> Iterator[str]:
    """Yield groups of errors as lines of text: a summary, then each group with an example.

    Parameters
    ----------
    groups : sequence of ErrorGroup
        The groups, at least one.
    limit : int
        How many groups to show.
    ended : bool
        Whether the run has ended, so that stages after a failed node will not run.
    tag : str
        The tag of the run.
    """
    yield _summary_of(groups)
    for number, group in enumerate(groups[:limit], 1):
        yield ""
        yield f"{number}. {_times(group)}{group.type}: {group.why or _first_line(group.message)}"
        yield f"   in {group.stage}, {_keys(group)}{_hosts(group)}"
        if group.futile_stages:
            yield f"   {_futile(group, ended)}"
        if group.remedy:
            yield f"   HTCondor says: {' '.join(group.message.split())}"
            yield f"   {group.remedy}"
        if group.example is not None:
            yield from (f"   {line}".rstrip() for line in example_lines(group))
    if len(groups) > limit:
        more = f"{len(groups) - limit:,} more"
        yield ""
        yield f"and {more}: htdag errors {quote(tag)} --limit {len(groups)}"


def _summary_of(groups: Sequence[ErrorGroup]) -> str:
    errors = sum(group.count for group in groups if group.type != HELD)
    held = sum(group.count for group in groups if group.type == HELD)
    parts = [_number(errors, "error")] if errors or not held else []
    parts += [f"{_number(held, 'job')} on hold"] if held else []
    causes = f"{len(groups)} different causes" if len(groups) > 1 else "one cause"
    what = " and ".join(parts)
    return what if errors + held == 1 else f"{what}, {causes}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _times(group: ErrorGroup) -> str:
    return f"{group.count} x " if group.count > 1 else ""


def _first_line(message: str) -> str:
    first, _, rest = message.partition("\n")
    return first + (" ..." if rest.strip() else "")


def _keys(group: ErrorGroup) -> str:
    keys = list(dict.fromkeys(key for key in group.keys if key))
    if group.type == HELD:
        what = "job"
    elif not keys:
        return "whole job" if group.count == 1 else "whole jobs"
    else:
        what = "item"
    more = f", ... {len(keys)} in all" if len(keys) > _KEYS_SHOWN else ""
    return f"{what}{'' if len(keys) == 1 else 's'} {', '.join(keys[:_KEYS_SHOWN])}{more}"


def _hosts(group: ErrorGroup) -> str:
    if not group.hosts:
        return ""
    if len(group.hosts) == 1:
        everywhere = "all " if group.count > 1 else ""
        return f" ({everywhere}on {next(iter(group.hosts))})"
    shown = [f"{host} {count}" for host, count in list(group.hosts.items())[:_HOSTS_SHOWN]]
    more = f", ... {len(group.hosts)} machines" if len(group.hosts) > _HOSTS_SHOWN else ""
    return f" (on {', '.join(shown)}{more})"


def _futile(group: ErrorGroup, ended: bool) -> str:
    stages = ", ".join(group.futile_stages[:_HOSTS_SHOWN])
    if len(group.futile_stages) > _HOSTS_SHOWN:
        stages += f", ... {len(group.futile_stages)} stages"
    items = f", {_number(group.futile_items, 'item')}" if group.futile_items else ""
    return f"{'made futile' if ended else 'holds up'}: {stages}{items}"


def example_lines(group: ErrorGroup) -> Iterator[str]:
    """Yield the example of a group: its item, its traceback with variables, and its output."""
    example = group.example
    body = [] if example is None else list(error_body(example))
    if example is not None and body and group.count > 1:
        yield f"for example {'a whole job' if example.key is None else f'item {example.key}'}:"
    yield from body


def error_body(error: ItemError) -> Iterator[str]:
    """Yield the lines of an error after the first: its item, traceback and output."""
    if error.item:
        yield f"  given: {error.item}"
    if error.argument:
        yield f"  {error.stage} was given: {error.argument}"
    for title, text in (
        ("", error.traceback_with_locals()),
        ("printed:", error.stdout),
        ("printed on stderr:", error.stderr),
    ):
        if text.strip():
            if title:
                yield f"  {title}"
            yield from (f"  {line}".rstrip() for line in text.rstrip().splitlines())


def context_lines(error: ItemError) -> Iterator[str]:
    """Yield the circumstances of an error: its job, host, Python, packages and scratch files."""
    when = "" if error.time is None else time.strftime(" at %F %T", time.localtime(error.time))
    yield (
        f"  job: node {error.node}, chunk {error.chunk}, attempt {error.attempt}, "
        f"on {error.host}{when}"
    )
    system = f"; {error.system}" if error.system else ""
    yield f"  Python {error.python}{system}"
    if error.packages:
        versions = ", ".join(f"{name} {version}" for name, version in error.packages.items())
        yield f"  packages: {versions}"
    if error.scratch:
        more = f", ... {len(error.scratch)} in all" if len(error.scratch) > _LISTED else ""
        yield f"  scratch directory: {', '.join(error.scratch[:_LISTED])}{more}"


def error_lines(
    errors: Sequence[ItemError], limit: int | None, *, context: bool = False
) -> Iterator[str]:
    """Yield errors as lines of text: a summary, then each with its traceback.

    Parameters
    ----------
    errors : sequence of ItemError
        The errors.
    limit : int or None
        How many errors to show in full; None: all.
    context : bool
        Show also the circumstances of each.
    """
    yield _summary(errors)
    for error in errors[:limit]:
        yield ""
        yield str(error)
        yield from error_body(error)
        if context:
            yield from context_lines(error)
    if limit is not None and len(errors) > limit:
        yield ""
        yield f"{len(errors) - limit} more: a higher --limit shows them"


def _summary(errors: Sequence[ItemError]) -> str:
    counts = Counter((error.stage, error.type) for error in errors)
    parts = [f"{count} {kind} in {stage}" for (stage, kind), count in counts.most_common()]
    return f"{_number(len(errors), 'error')}: {', '.join(parts)}"
