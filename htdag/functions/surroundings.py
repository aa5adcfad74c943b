"""The state of the script's process that travels to jobs: see docs/surroundings.md.

Scripts set some state once for the whole process that can change results: environment variables,
the locale, the context of `decimal`, numpy's handling of floating-point errors, and the recursion
limit. Jobs get the same state, on HTCondor and on this machine.
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


# Variables of a machine, a session or a program, which mean nothing in a job.
_STAYS = re.compile(
    r"(HTDAG_|_?CONDOR_|PYTHON|LD_|PYTEST|JPY_|KERNEL_|PYDEV|COV_CORE|COVERAGE|XDG_|SSH_|DBUS_|"
    r"VSCODE_|SLURM_|CUDA_VISIBLE|NVIDIA_VISIBLE|GPU_DEVICE).*|"
    r"PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|TERM|COLUMNS|LINES|DISPLAY|XAUTHORITY|"
    r"TMPDIR|TMP|TEMP|BATCH_SYSTEM|MAIL|HOSTNAME|CLICOLOR|PAGER|GIT_PAGER|FORCE_COLOR|NO_COLOR"
)
_DEFAULT_LIMIT = 1000  # the recursion limit of a new process


def of_node(functions: Iterable[Any]) -> SurroundingsEntry:
    """Return the state for the jobs of a node, and the part of it that can change results.

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
    """Return the environment variables whose names are strings in the code of functions."""
    codes = reach(functions).codes
    texts = {text for code, _ in codes for text in _texts(code)}
    return {name: os.environ[name] for name in sorted(texts) if _travels(name)}


def _umask() -> int | None:
    """Return the umask of this process, from /proc, since `os.umask` would change it."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            match = re.search(r"^Umask:\s*([0-7]+)$", file.read(), re.MULTILINE)
    except OSError:
        return None
    return None if match is None else int(match[1], 8)


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
    """Return the variables that the script itself has set, unlike those it was started with."""
    try:
        with open("/proc/self/environ", "rb") as file:
            initial = dict(
                entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry
            )
    except OSError:
        return {}
    changed = {
        name: value
        for name, value in os.environ.items()
        if initial.get(os.fsencode(name)) != os.fsencode(value)
    }
    return {name: value for name, value in sorted(changed.items()) if _travels(name)}


def _variables_of_language() -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name in ("LANG", "LANGUAGE", "TZ", *process_state.THREADS) or name.startswith("LC_")
    }


def _state_of_numbers() -> Deciding:
    """Return the settings for computing and formatting numbers that are not the default."""
    state: Deciding = {}
    decimal = sys.modules.get("decimal")
    if decimal is not None:
        context = process_state.of_decimal(decimal.getcontext())
        if context != process_state.of_decimal(decimal.Context()):
            state["decimal"] = context
    numpy = sys.modules.get("numpy")
    if numpy is not None and numpy.geterr() != process_state.NUMPY:
        state["numpy"] = dict(numpy.geterr())
    locale = process_state.locale()
    if locale:
        state["locale"] = locale
    return state


def _logging() -> Logging | None:
    """Return the logging to the terminal: level and format of the root, and levels of others."""
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
