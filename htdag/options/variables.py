"""The option ``environ``: environment variables for jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from htdag.checks.validation import shown
from htdag.errors import OptionError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_GIVEN_BY_HTCONDOR = re.compile(
    r"_CONDOR_.*|CONDOR_.*|BATCH_SYSTEM|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|"
    r"GPU_DEVICE_ORDINAL|TMPDIR|TMP|TEMP"
)


def environ(value: Any) -> tuple[tuple[str, str], ...]:
    """Return the variables of the option, sorted by name.

    Raises
    ------
    OptionError
        If it is not a dict of strings, or a variable is reserved.
    """
    if not isinstance(value, Mapping):
        raise OptionError("it takes a dict of variables, such as {'NAME': 'value'}")
    for name, content in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise OptionError(
                f"{name!r} is not the name of a variable: letters, digits and _, but no digit first"
            )
        if not isinstance(content, str):
            raise OptionError(
                f"the value of {name} is a {type(content).__name__}; give a string, such as "
                f"{shown(str(content))}"
            )
        if "\0" in content:
            raise OptionError(
                f"the value of {name} has a NUL character, which no variable can have"
            )
        if name.startswith("HTDAG_"):
            raise OptionError(f"{name} is reserved: variables HTDAG_... describe a job")
        if _GIVEN_BY_HTCONDOR.fullmatch(name):
            raise OptionError(f"HTCondor sets {name} itself in each job")
        if name.startswith("PYTHON"):
            raise OptionError(
                f"the Python of jobs ignores {name}, since it runs with -E; if a program that a "
                f"function starts needs it, set it there"
            )
    return tuple(sorted(value.items()))
