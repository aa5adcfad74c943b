"""The options of stages: which there are, what they may be, and how they combine."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from htdag import environments
from htdag.environments import Environment
from htdag.errors import OptionError

_LARGEST = 10**15
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", re.IGNORECASE)

# What htdag itself writes into every submit description; submit={...} must not fight with it.
_OURS = frozenset(
    [
        "executable",
        "arguments",
        "transfer_executable",
        "transfer_input_files",
        "transfer_output_files",
        "should_transfer_files",
        "when_to_transfer_output",
        "preserve_relative_paths",
        "output",
        "error",
        "log",
        "universe",
        "queue",
        "initialdir",
        "input",
        "batch_name",
        "jobbatchname",
        "transfer_output_remaps",
        "notification",
        "dagmanjobid",
    ]
)


@dataclass(frozen=True)
class Options:
    """The options of one stage, checked and in normal form.

    None stands for "not given": HTCondor's or htdag's default holds. The fields are the options
    that stages and pipelines take; see the reference for their meaning.
    """

    request_cpus: int | None = None
    request_memory: str | None = None
    request_disk: str | None = None
    request_gpus: int | None = None
    retry_request_memory: str | None = None
    requirements: str | None = None
    rank: str | None = None
    priority: int | None = None
    accounting_group: str | None = None
    max_materialize: int | None = None
    max_idle: int | None = None
    category: str | None = None
    node_priority: int | None = None
    submit: tuple[tuple[str, str], ...] | None = None
    chunk_size: int | None = None
    retries: int | None = None
    on_error: str | None = None
    max_errors: int | float | None = None
    fuse: bool | None = None
    cache: bool | None = None
    environment: Environment | None = None

    def over(self, defaults: Options) -> Options:
        """Return these options, with `defaults` where none is given.

        Requirements are joined with ``&&``; submit commands are merged.
        """
        merged = {
            item.name: getattr(self, item.name)
            if getattr(self, item.name) is not None
            else getattr(defaults, item.name)
            for item in fields(self)
        }
        if self.requirements and defaults.requirements:
            merged["requirements"] = f"({defaults.requirements}) && ({self.requirements})"
        if self.submit and defaults.submit:
            merged["submit"] = tuple(sorted({**dict(defaults.submit), **dict(self.submit)}.items()))
        return Options(**merged)

    def given(self) -> dict[str, Any]:
        """Return the options that are given, by name."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) is not None
        }

    def of_jobs(self) -> Options:
        """Return what decides whether two stages can share jobs: all but the chunk size."""
        return replace(self, chunk_size=None, fuse=None)


def parse(values: Mapping[str, Any], stage: str) -> Options:
    """Check options given by the user.

    Parameters
    ----------
    values : mapping
        Options by name.
    stage : str
        The stage (or pipeline) to name in errors.

    Raises
    ------
    OptionError
        For an unknown option, or a value of a wrong type or size.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        check = _CHECKS.get(name)
        if name in PIPELINE_ONLY:
            raise OptionError(
                f"stage {stage!r}: {name} is an option of the whole pipeline; give it to "
                f"Pipeline(..., {name}=...)"
            )
        if check is None:
            near = difflib.get_close_matches(name, [*_CHECKS, *PIPELINE_ONLY], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionError(
                f"stage {stage!r}: there is no option {name!r}{hint} "
                f"(any other submit command goes into submit={{...}})"
            )
        if value is not None:
            try:
                checked[name] = check(value)
            except OptionError as error:
                raise OptionError(f"stage {stage!r}: option {name}={value!r}: {error}") from None
    return Options(**checked)


def whole_number(low: int, high: int = 2**31 - 1) -> Any:
    """Return a check for a whole number in a range, both ends included."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise OptionError("it takes a whole number")
        if not low <= value <= high:
            raise OptionError(f"it must be from {low} to {high}")
        return value

    return check


def _size(default_unit: str) -> Any:
    def check(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 0 < value < _LARGEST:
                raise OptionError("it must be more than 0, and less than 10^15")
            return f"{value}{default_unit}"
        if isinstance(value, str):
            match = _SIZE.fullmatch(value)
            if match and 0 < float(match[1]) < _LARGEST:
                return f"{match[1]}{(match[2] or default_unit[0]).upper()}B"
        raise OptionError(
            f"it takes a number (of {default_unit}) or a text such as '512MB' or '2.5GB'"
        )

    return check


def one_line(value: Any) -> str:
    """Return a text (or a number as text) that can be the value of a command of HTCondor's."""
    if isinstance(value, bool | int | float):
        value = str(value)
    if not isinstance(value, str):
        raise OptionError("it takes a text")
    if not value.strip():
        raise OptionError("it is empty")
    if any(character in value for character in "\n\r\0"):
        raise OptionError("it must be one line: a submit description has one command a line")
    return value.strip()


def word(value: Any) -> str:
    """Return a name that DAGMan reads as one word."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][\w.-]*", value, re.ASCII):
        raise OptionError("it takes a name of letters, digits and . _ - that begins with a letter")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionError("it takes True or False")
    return value


def _on_error(value: Any) -> str:
    if not isinstance(value, str) or value not in ("finish", "stop", "skip"):
        raise OptionError("it takes 'finish', 'stop' or 'skip'")
    return value


def _max_errors(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError("it takes a number of items, or a share such as 0.05")
    if value < 0 or (isinstance(value, float) and not value <= 1):
        raise OptionError("it takes a whole number from 0, or a share from 0.0 to 1.0")
    return value


def _submit(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise OptionError("it takes a dict of submit commands")
    commands = {}
    for name, content in value.items():
        if not isinstance(name, str) or not re.fullmatch(r"\+?[A-Za-z_][\w.]*", name):
            raise OptionError(f"{name!r} is not the name of a submit command")
        if name.lower() in _OURS:
            raise OptionError(f"{name!r} is set by htdag itself")
        if name.lower() in _CHECKS:
            raise OptionError(f"give {name}=... as an option of the stage instead")
        commands[name] = one_line(content)
    return tuple(sorted(commands.items()))


_CHECKS: dict[str, Any] = {
    "request_cpus": whole_number(1, 100_000),
    "request_memory": _size("MB"),
    "request_disk": _size("KB"),
    "request_gpus": whole_number(0, 1_000),
    "retry_request_memory": one_line,
    "requirements": one_line,
    "rank": one_line,
    "priority": whole_number(-(2**31), 2**31 - 1),
    "accounting_group": one_line,
    "max_materialize": whole_number(1),
    "max_idle": whole_number(1),
    "category": word,
    "node_priority": whole_number(-(2**31)),
    "submit": _submit,
    "chunk_size": whole_number(1),
    "retries": whole_number(0, 1_000),
    "on_error": _on_error,
    "max_errors": _max_errors,
    "fuse": _flag,
    "cache": _flag,
    "environment": environments.parse,
}
OPTION_NAMES = tuple(_CHECKS)
PIPELINE_ONLY = (
    "max_jobs_submitted",
    "max_jobs_idle",
    "max_post_scripts",
    "maxjobs",
    "dagman",
)
