"""The option ``environ``: variables of the environment that jobs are to have."""

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
    """Return the variables that an option gives, in order of their names.

    Raises
    ------
    OptionError
        If it is no dict of texts, or a name is not the user's to give.
    """
    if not isinstance(value, Mapping):
        raise OptionError("it takes a dict of variables, such as {'NAME': 'value'}")
    for name, content in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise OptionError(
                f"{name!r} is not the name of a variable: letters, digits and _, no digit first"
            )
        if not isinstance(content, str):
            raise OptionError(
                f"the value of {name} is a {type(content).__name__}; give a text, such as "
                f"{shown(str(content))}"
            )
        if "\0" in content:
            raise OptionError(f"the value of {name} holds a NUL character, which none can")
        if name.startswith("HTDAG_"):
            raise OptionError(f"{name} is htdag's own: it tells functions what they work for")
        if _GIVEN_BY_HTCONDOR.fullmatch(name):
            raise OptionError(f"HTCondor gives each job a {name} of its own")
        if name.startswith("PYTHON"):
            raise OptionError(
                f"the Python of jobs takes no notice of {name}: it begins before, and is started "
                f"with -E; a program that a function starts can be given it there"
            )
    return tuple(sorted(value.items()))
