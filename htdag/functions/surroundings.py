"""What travels of the state of the script's process: see docs/surroundings.md.

What decides results and is set once for a whole process, at the top of a script, is so in jobs too,
on HTCondor and on this machine: variables of the environment, the locale, the context of `decimal`,
what numpy does about floating-point errors, the limit of recursion.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import sys
import types
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from htdag.functions.reach import reach
from htdag.runtime.job import process_state

if TYPE_CHECKING:
    from htdag.runtime.formats.task import Deciding, Logging, SurroundingsEntry


# What belongs to a machine, a session or a program there, and means nothing in a job.
_STAYS = re.compile(
    r"(HTDAG_|_?CONDOR_|PYTHON|LD_|PYTEST|JPY_|KERNEL_|PYDEV|COV_CORE|COVERAGE|XDG_|SSH_|DBUS_|"
    r"VSCODE_|SLURM_|CUDA_VISIBLE|NVIDIA_VISIBLE|GPU_DEVICE).*|"
    r"PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|TERM|COLUMNS|LINES|DISPLAY|XAUTHORITY|"
    r"TMPDIR|TMP|TEMP|BATCH_SYSTEM|MAIL|HOSTNAME|CLICOLOR|PAGER|GIT_PAGER|FORCE_COLOR|NO_COLOR"
)
_DEFAULT_LIMIT = 1000  # of recursion, in a new process


def of_node(functions: Iterable[Any]) -> SurroundingsEntry:
    """Return what the jobs of a node are to find, and of that what can change its results.

    Parameters
    ----------
    functions : iterable
        The functions and initial values of the node.
    """
    names = named_variables(functions)
    return {
        "variables": {**_changed_variables(), **_variables_of_language(), **names},
        "deciding": {**_state_of_numbers(), "variables": names},
        "recursion": max(sys.getrecursionlimit(), _DEFAULT_LIMIT),
        "stack": resource.getrlimit(resource.RLIMIT_STACK)[0],
        "umask": _umask(),
        "logging": _logging(),
    }


def named_variables(functions: Iterable[Any]) -> dict[str, str]:
    """Return the variables of the environment whose names stand in the code of functions."""
    codes = reach(functions).codes
    texts = {text for code, _ in codes for text in _texts(code)}
    return {name: os.environ[name] for name in sorted(texts) if _travels(name)}


def _umask() -> int | None:
    """Return the mask of this process, which cannot be asked for without setting it, if it can."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            found = re.search(r"^Umask:\s*([0-7]+)$", file.read(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1], 8)


def _texts(code: types.CodeType) -> Iterator[str]:
    waiting: list[Any] = [code.co_consts]
    while waiting:
        for each in waiting.pop():
            if isinstance(each, str):
                yield each
            elif isinstance(each, tuple | frozenset):
                waiting.append(each)
            elif isinstance(each, types.CodeType):
                waiting.append(each.co_consts)


def _travels(name: str) -> bool:
    if not name or "\0" in name or "=" in name or name not in os.environ:
        return False
    if _STAYS.fullmatch(name) or not os.environ[name].isprintable():
        return False
    return not (name == "MPLBACKEND" and os.environ[name].startswith("module:"))


def _changed_variables() -> dict[str, str]:
    """Return the variables that the script itself has set: those of this process but not before."""
    try:
        with open("/proc/self/environ", "rb") as file:
            begun = dict(
                entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry
            )
    except OSError:
        return {}
    own = {
        name: value
        for name, value in os.environ.items()
        if begun.get(os.fsencode(name)) != os.fsencode(value)
    }
    return {name: value for name, value in sorted(own.items()) if _travels(name)}


def _variables_of_language() -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name in ("LANG", "LANGUAGE", "TZ", *process_state.THREADS) or name.startswith("LC_")
    }


def _state_of_numbers() -> Deciding:
    """Return what decides how numbers are computed and shown, where it is not the default."""
    found: Deciding = {}
    decimal = sys.modules.get("decimal")
    if decimal is not None:
        own = process_state.of_decimal(decimal.getcontext())
        if own != process_state.of_decimal(decimal.Context()):
            found["decimal"] = own
    numpy = sys.modules.get("numpy")
    if numpy is not None and numpy.geterr() != process_state.NUMPY:
        found["numpy"] = dict(numpy.geterr())
    locale = process_state.locale()
    if locale:
        found["locale"] = locale
    return found


def _logging() -> Logging | None:
    """Return what is logged to the terminal: the root's level and format, the levels of others."""
    root = logging.getLogger()
    shown = [
        handler
        for handler in root.handlers
        if type(handler) is logging.StreamHandler and handler.stream in (sys.stdout, sys.stderr)
    ]
    if not shown:
        return None
    form = shown[0].formatter
    loggers = {
        name: each.level
        for name, each in sorted(logging.root.manager.loggerDict.items())
        if isinstance(each, logging.Logger) and each.level
    }
    return {
        "level": root.level,
        "format": getattr(form, "_fmt", None),
        "date": getattr(form, "datefmt", None),
        "stream": "stdout" if shown[0].stream is sys.stdout else "stderr",
        "loggers": loggers,
    }
