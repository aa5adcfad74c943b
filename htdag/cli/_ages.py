"""How long ago, as words of a command: 12h, 30d or 8w."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from htdag import _units
from htdag.errors import OptionError


class Age(click.ParamType[timedelta]):
    """A length of time with its unit, such as 30d."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        text = value.strip()
        try:
            if not text[-1:].isalpha():  # of which unit?
                raise OptionError(text)
            return timedelta(seconds=_units.duration(0)(text))
        except OptionError:
            self.fail(f"{value!r} is no length of time; give one such as 12h or 30d", param, ctx)


OLDER_THAN = click.option("--older-than", type=Age(), metavar="AGE", help="Such as 12h, 30d or 8w.")
