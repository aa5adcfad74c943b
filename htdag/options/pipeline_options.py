"""The options of a pipeline as a whole, which limit how much of it DAGMan runs at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from htdag.checks import validation
from htdag.checks.quantities import whole_number
from htdag.checks.validation import shown
from htdag.errors import OptionError
from htdag.options.stage_options import PIPELINE_ONLY, one_line, word

# Settings that htdag reads, or that its nodes depend on.
_OURS = frozenset(
    [
        "DAGMAN_ALWAYS_RUN_POST",
        "DAGMAN_AUTO_RESCUE",
        "DAGMAN_CONFIG_FILE",
        "DAGMAN_DEFAULT_NODE_LOG",
        "DAGMAN_INSERT_SUB_FILE",
        "DAGMAN_MAX_RESCUE_NUM",
        "DAGMAN_PROHIBIT_MULTI_JOBS",
        "DAGMAN_SUPPRESS_JOB_LOGS",
    ]
)


@dataclass(frozen=True)
class Throttles:
    """The options of a pipeline as a whole, checked; None and () mean "not given"."""

    max_jobs_submitted: int | None = None
    max_jobs_idle: int | None = None
    max_post_scripts: int | None = None
    maxjobs: tuple[tuple[str, int], ...] = ()
    dagman: tuple[tuple[str, str], ...] = ()

    def given(self) -> dict[str, Any]:
        """Return the options that were given, by name, in the form that the user wrote."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: dict(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value not in (None, ())
        }

    def settings(self) -> dict[str, str]:
        """Return the corresponding settings of HTCondor, by name."""
        numbers = ("max_jobs_submitted", "max_jobs_idle", "max_post_scripts")
        limits = {f"DAGMAN_{name.upper()}": getattr(self, name) for name in numbers}
        texts = {name: str(value) for name, value in limits.items() if value is not None}
        return {**texts, **dict(self.dagman)}


def parse(values: Mapping[str, Any], pipeline: str) -> Throttles:
    """Check options of a pipeline as a whole; None means "not given".

    Parameters
    ----------
    values : mapping
        Options by name.
    pipeline : str
        The pipeline to name in errors.

    Raises
    ------
    OptionError
        For a value of a wrong type or size.
    """
    checked = {}
    for name, value in values.items():
        if value is not None:
            try:
                checked[name] = _CHECKS[name](value)
            except OptionError as error:
                raise OptionError(
                    f"pipeline {pipeline!r}: option {name}={shown(value)}: {error}"
                ) from None
    return Throttles(**checked)


def check_categories(throttles: Throttles, used: Mapping[str, str], pipeline: str) -> None:
    """Check that each category has a limit, and each limit a category that stages have.

    Parameters
    ----------
    throttles : Throttles
        The options of the pipeline.
    used : mapping of str to str
        The categories of stages, each with one of its stages.
    pipeline : str
        The pipeline to name in errors.

    Raises
    ------
    OptionError
        If a category has no limit, or a limit has no category.
    """
    limits = dict(throttles.maxjobs)
    for category, stage in used.items():
        if category not in limits:
            raise OptionError(
                f"stage {stage!r}: option category={category!r}: the pipeline sets no limit for "
                f"it; give Pipeline(..., maxjobs={{{category!r}: 2}}), or another number of nodes"
            )
    for category in limits:
        if category not in used:
            hint = validation.did_you_mean(category, used, before="; ")
            raise OptionError(
                f"pipeline {pipeline!r}: option maxjobs={shown(limits)}: no stage has "
                f"category={category!r}{hint}"
            )


def _maxjobs(value: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, Mapping):
        raise OptionError("it takes a dict of categories and numbers of nodes, such as {'db': 2}")
    check = whole_number(1)
    return tuple(sorted((word(category), check(number)) for category, number in value.items()))


def _dagman(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise OptionError("it takes a dict of DAGMan's settings")
    settings = {}
    for name, content in value.items():
        if not isinstance(name, str) or not re.fullmatch(r"DAGMAN_\w+", name.upper(), re.ASCII):
            raise OptionError(f"{name!r} is not the name of a setting of DAGMan's (DAGMAN_...)")
        name = name.upper()
        if name in _OURS:
            raise OptionError(f"{name} is set by htdag itself")
        option = name.removeprefix("DAGMAN_").lower()
        if option in PIPELINE_ONLY:
            raise OptionError(f"give {option}=... as an option of the pipeline instead")
        settings[name] = one_line(content)
    return tuple(sorted(settings.items()))


_CHECKS: dict[str, Any] = {
    "max_jobs_submitted": whole_number(1),
    "max_jobs_idle": whole_number(1),
    "max_post_scripts": whole_number(1),
    "maxjobs": _maxjobs,
    "dagman": _dagman,
}
