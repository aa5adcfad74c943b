"""ClassAd expressions of users, read before a run is made, as far as the bindings can read them."""

from __future__ import annotations

from collections.abc import Iterable

from htdag.errors import OptionError


def check(expressions: Iterable[tuple[str, str]]) -> None:
    """Refuse expressions that HTCondor would refuse only when it gets the jobs of their node.

    Where the bindings are not installed nothing is checked.

    Parameters
    ----------
    expressions : iterable of (str, str)
        Where each was given, and its text.

    Raises
    ------
    OptionError
        For a text that is no ClassAd expression.
    """
    try:
        from htdag.backends.condor.bindings import syntax_problem
    except ImportError:
        return
    for where, text in expressions:
        problem = syntax_problem(text)
        if problem:
            raise OptionError(
                f"{where}: {text} is no ClassAd expression{problem}; one looks like "
                f'TARGET.Memory > 4000 && OpSysAndVer == "Debian12"'
            )
