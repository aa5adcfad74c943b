"""Settings: a value from code, else from the environment, the user's file, or the default.

The file is TOML. It is read again for each use of a setting.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from htdag.checks import validation
from htdag.checks.quantities import real, whole_number
from htdag.errors import OptionError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

FILE_VARIABLE = "HTDAG_SETTINGS"
TARGET = "HTDAG_TARGET_JOB_SECONDS"
HISTORY = "HTDAG_HISTORY"
OPTIONS = "options"
"""The table of the file whose entries are default options of all stages."""

MOST_LANES = 1_000
_YES = ("1", "on", "true", "yes")
_NO = ("0", "off", "false", "no")
_LEVELS = ("debug", "info", "warning", "error", "off")
_PLACES = ("auto", "condor", "local")


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes
    ----------
    name : str
        Its name in the file and in code.
    variable : str
        The environment variable.
    check : callable
        Takes a value and returns it in normal form, or raises a ValueError that says what it takes.
    default : object
        Its value if nobody sets it.
    meaning : str
        What it is for.
    read : callable
        Turns the text of the environment variable into a value for `check`.
    """

    name: str
    variable: str
    check: Callable[[Any], Any]
    default: Any
    meaning: str
    read: Callable[[str], Any] = str


@dataclass(frozen=True)
class Value:
    """The value of a setting.

    Attributes
    ----------
    setting : Setting
        The setting.
    value : object
        Its value, in normal form.
    origin : str
        Where the value comes from: ``"code"``, a variable, the file, or ``"default"``.
    """

    setting: Setting
    value: Any
    origin: str


def _seconds(value: Any) -> float:
    number = real(value)
    if number is None or not 0 < number < math.inf:
        raise ValueError("it takes a number of seconds, more than 0")
    return float(number)


def _read_seconds(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(
            "it takes on or off" if isinstance(value, str) else "it takes True or False"
        )
    return value


def _read_switch(text: str) -> bool | str:
    if text.lower() not in (*_YES, *_NO):
        return text
    return text.lower() in _YES


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"it takes {', '.join(words)}")
        return str(value)

    return check


def _folder(value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError("it takes the path of a folder")
    return os.path.abspath(os.path.expanduser(os.fspath(value)))


SETTINGS = (
    Setting(
        "home",
        "HTDAG_HOME",
        _folder,
        None,
        "the folder of runs, of your own pool and of logs",
    ),
    Setting("on", "HTDAG_ON", _one_of(_PLACES), "auto", "where runs go by default"),
    Setting(
        "target_job_seconds",
        TARGET,
        _seconds,
        600.0,
        "seconds that a job should take",
        _read_seconds,
    ),
    Setting(
        "history",
        HISTORY,
        _switch,
        True,
        "plan by earlier runs, and measure new ones",
        _read_switch,
    ),
    Setting(
        "log_level", "HTDAG_LOG_LEVEL", _one_of(_LEVELS), "info", "the least severe level to log"
    ),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def file() -> Path:
    """Return the path of the user's settings file, which need not exist.

    It is ``$HTDAG_SETTINGS``, or else ``htdag/settings.toml`` in the user's configuration
    directory (``~/.config`` on Linux).
    """
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named).expanduser()
    try:
        return Path(platformdirs.user_config_dir("htdag")) / "settings.toml"
    except RuntimeError:  # a user without a home directory
        return Path(os.devnull)


def _content() -> dict[str, Any]:
    path = file()
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{str(path)!r} cannot be read: {error}") from error
    for name, value in content.items():
        if name not in _BY_NAME and name != OPTIONS:
            names = [*_BY_NAME, OPTIONS]
            hint = validation.did_you_mean(name, names, f"it may have {', '.join(_BY_NAME)}")
            raise OptionError(f"{str(path)!r} has an unknown setting {name!r}; {hint}")
        if name == OPTIONS and not isinstance(value, dict):
            raise OptionError(f"{str(path)!r}: {OPTIONS} is a table, [{OPTIONS}]")
    return content


def resolve(name: str, given: Any = None) -> Value:
    """Return the value of a setting, and where it comes from.

    Parameters
    ----------
    name : str
        The setting.
    given : object
        The value from code; None if there is none.

    Raises
    ------
    OptionError
        If the value is wrong; the error says where it was given.
    """
    setting = _BY_NAME[name]
    text = os.environ.get(setting.variable, "").strip()
    if given is not None:
        value, place, origin = given, name, "code"
    elif text:
        value, place, origin = setting.read(text), setting.variable, setting.variable
    else:
        content = _content()
        if name not in content:
            return Value(setting, setting.default, "default")
        value, place, origin = content[name], f"{str(file())!r}: {name}", str(file())
    try:
        return Value(setting, setting.check(value), origin)
    except ValueError as error:
        raise OptionError(f"{place}={validation.shown(value)}: {error}") from error


def every() -> list[Value]:
    """Return all settings with the values that apply unless code gives others."""
    return [resolve(setting.name) for setting in SETTINGS]


def options() -> dict[str, Any]:
    """Return the default options of stages that the user's file gives."""
    return dict(_content().get(OPTIONS, {}))


def target_job_seconds(given: Any) -> float:
    """Return how many seconds a job should take."""
    return float(resolve("target_job_seconds", given).value)


def lanes(given: Any) -> int | None:
    """Return how many lanes to cut chains of nodes into; None if the planner decides.

    Raises
    ------
    OptionError
        If it is not a whole number from 1 to `MOST_LANES`.
    """
    if given is None:
        return None
    try:
        return int(whole_number(1, MOST_LANES)(given))
    except OptionError as error:
        raise OptionError(f"lanes={given!r}: {error}, or None: the planner decides") from None


def use_history(given: Any) -> bool:
    """Return whether plans follow earlier runs."""
    return bool(resolve("history", given).value)
