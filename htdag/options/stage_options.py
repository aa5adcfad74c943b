"""The options of stages: their names, their checks, and how they combine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from htdag import environments
from htdag.checks import validation
from htdag.checks.quantities import duration, real, size, whole_number
from htdag.checks.validation import shown
from htdag.environments import Environment
from htdag.errors import OptionError
from htdag.options import destination, submit_commands, variables
from htdag.options.input_files import InputFiles, check_input_files, merge_input_files
from htdag.options.resources import PER_ITEM, PerItem

_LIMIT = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*(?::\d+(?:\.\d+)?)?", re.ASCII)

# Names of options in other systems.
_MEANT = {
    **dict.fromkeys(("time", "walltime", "max_time", "time_limit"), "allowed_job_duration"),
    **dict.fromkeys(("memory", "mem", "ram"), "request_memory"),
    **dict.fromkeys(("cpus", "cores", "threads"), "request_cpus"),
    **dict.fromkeys(("gpus", "gpu"), "request_gpus"),
    **dict.fromkeys(("disk", "scratch"), "request_disk"),
    **dict.fromkeys(("license", "licenses", "limits"), "concurrency_limits"),
    **dict.fromkeys(("container", "container_image", "image"), "environment"),
    **dict.fromkeys(("env", "envs", "variables", "environment_variables"), "environ"),
}


@dataclass(frozen=True)
class Options:
    """The options of one stage, checked and in normal form.

    None means "not given": the default of HTCondor or htdag applies. The fields are the options of
    stages and pipelines; see the reference for their meaning.
    """

    request_cpus: int | PerItem | None = None
    request_memory: str | PerItem | None = None
    request_disk: str | PerItem | None = None
    request_gpus: int | PerItem | None = None
    allowed_job_duration: int | PerItem | None = None
    retry_request_memory: str | None = None
    requirements: str | None = None
    rank: str | None = None
    priority: int | None = None
    accounting_group: str | None = None
    concurrency_limits: str | None = None
    max_materialize: int | None = None
    max_idle: int | None = None
    category: str | None = None
    node_priority: int | None = None
    submit: tuple[tuple[str, str], ...] | None = None
    checkpoint_interval: int | None = None
    input_files: InputFiles | None = None
    output_files: destination.Remaps | None = None
    output_destination: str | None = None
    chunk_size: int | None = None
    retries: int | None = None
    on_error: str | None = None
    max_errors: int | float | None = None
    fuse: bool | None = None
    cache: bool | None = None
    environment: Environment | None = None
    environ: tuple[tuple[str, str], ...] | None = None
    transfer_files: bool | None = None

    def with_defaults(self, defaults: Options) -> Options:
        """Return these options, with `defaults` for those that are not given.

        Requirements are joined by ``&&``; submit commands, variables, input and output files are
        merged.
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
        if self.environ and defaults.environ:
            both = {**dict(defaults.environ), **dict(self.environ)}
            merged["environ"] = tuple(sorted(both.items()))
        merged["output_files"] = destination.merged(self.output_files, defaults.output_files)
        merged["input_files"] = merge_input_files(self.input_files, defaults.input_files)
        return Options(**merged)

    def given(self) -> dict[str, Any]:
        """Return the options that were given, by name."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) is not None
        }

    def expressions(self) -> Iterator[tuple[str, str]]:
        """Yield the ClassAd expressions in these options: the option, and the text."""
        if self.requirements:
            yield "requirements", self.requirements
        if self.rank:
            yield "rank", self.rank
        for name, text in self.submit or ():
            if name.startswith("+") or name.upper().startswith("MY."):
                yield f"submit, {name}", text

    def departures(self) -> dict[str, Any]:
        """Return the options that were given and differ from htdag's defaults."""
        default = BUILT_IN.given()
        return {name: value for name, value in self.given().items() if default.get(name) != value}

    def of_jobs(self) -> Options:
        """Return the options that two stages must have in common to share jobs."""
        return replace(self, chunk_size=None, fuse=None)


BUILT_IN = Options(
    retries=0,
    on_error="finish",
    max_errors=0,
    fuse=True,
    cache=False,
    checkpoint_interval=600,
    environment=Environment.assume(),
)
"""The defaults of htdag."""


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
            names = [*_CHECKS, *PIPELINE_ONLY]
            hint = validation.did_you_mean(_MEANT.get(name, name), names, before="; ")
            raise OptionError(
                f"stage {stage!r}: there is no option {name!r}{hint} "
                f"(any other submit command goes into submit={{...}})"
            )
        if callable(value) and name in PER_ITEM:
            checked[name] = PerItem(name, value, check)
        elif value is not None:
            try:
                checked[name] = check(value)
            except OptionError as error:
                raise OptionError(
                    f"stage {stage!r}: option {name}={shown(value)}: {error}"
                ) from None
    return Options(**checked)


def refuse_functions(defaults: Options, pipeline: str) -> None:
    """Raise `OptionError` if a default option is a function of the item: items differ by stage."""
    for name, value in defaults.given().items():
        if isinstance(value, PerItem):
            raise OptionError(
                f"pipeline {pipeline!r}: {name} is a function of the item; give it to the stage "
                f"that has these items"
            )


def one_line(value: Any) -> str:
    """Return a string, or a number as a string, that can be the value of a submit command."""
    if isinstance(value, bool):
        value = str(value)
    elif (number := real(value)) is not None:
        value = str(number)
    if not isinstance(value, str):
        raise OptionError("it takes a string")
    if not value.strip():
        raise OptionError("it is empty")
    if any(character in value for character in "\n\r\0"):
        raise OptionError("it must be one line, since submit descriptions have a command per line")
    if value.rstrip().endswith("\\"):
        raise OptionError(
            "it ends with a backslash, which would make HTCondor append the next line"
        )
    return value.strip()


def word(value: Any) -> str:
    """Return a name that is one word for DAGMan."""
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
    number = real(value)
    if number is None:
        raise OptionError("it takes a number of items, or a fraction such as 0.05")
    if number < 0 or (isinstance(number, float) and not number <= 1):
        raise OptionError("it takes a whole number from 0, or a fraction from 0.0 to 1.0")
    return number


def _concurrency_limits(value: Any) -> str:
    """Return limits in HTCondor's form, from a string, a list of names, or a dict of numbers."""
    if isinstance(value, Mapping):
        value = [name if number == 1 else f"{name}:{number}" for name, number in value.items()]
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    limits = [limit.strip() for limit in one_line(value).split(",")]
    for limit in limits:
        if not _LIMIT.fullmatch(limit):
            raise OptionError(
                f"{limit!r} is not a limit: give names, and how many of each a job takes, such as "
                f"'license', 'license:2, database' or {{'license': 2}}"
            )
    return ", ".join(limits)


def _accounting_group(value: Any) -> str:
    text = one_line(value)
    if len(text.split()) > 1:
        raise OptionError("it takes a name without blanks")
    return text


def _submit(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise OptionError("it takes a dict of submit commands")
    commands: dict[str, str] = {}
    for name, content in value.items():
        if not isinstance(name, str) or not re.fullmatch(r"\+?[A-Za-z_][\w.]*", name):
            raise OptionError(f"{name!r} is not the name of a submit command")
        why = submit_commands.why_refused(name)
        if why:
            raise OptionError(f"{name!r} {why}")
        if name.lower() in _CHECKS:
            raise OptionError(f"give {name}=... as an option of the stage instead")
        if name.lower() in {other.lower() for other in commands}:
            raise OptionError(f"{name!r} is given twice: upper and lower case are the same")
        commands[name] = one_line(content)
    return tuple(sorted(commands.items()))


_CHECKS: dict[str, Any] = {
    "request_cpus": whole_number(1, 100_000),
    "request_memory": size("MB"),
    "request_disk": size("KB"),
    "request_gpus": whole_number(0, 1_000),
    "allowed_job_duration": duration(),
    "retry_request_memory": one_line,
    "requirements": one_line,
    "rank": one_line,
    "priority": whole_number(-(2**31), 2**31 - 1),
    "accounting_group": _accounting_group,
    "concurrency_limits": _concurrency_limits,
    "max_materialize": whole_number(1),
    "max_idle": whole_number(1),
    "category": word,
    "node_priority": whole_number(-(2**31)),
    "submit": _submit,
    "checkpoint_interval": duration(),
    "input_files": check_input_files,
    "output_files": destination.output_files,
    "output_destination": destination.output_destination,
    "chunk_size": whole_number(1),
    "retries": whole_number(0, 1_000),
    "on_error": _on_error,
    "max_errors": _max_errors,
    "fuse": _flag,
    "cache": _flag,
    "environment": environments.parse,
    "environ": variables.environ,
    "transfer_files": _flag,
}
PIPELINE_ONLY = (
    "max_jobs_submitted",
    "max_jobs_idle",
    "max_post_scripts",
    "maxjobs",
    "dagman",
)
