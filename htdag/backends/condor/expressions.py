"""Checks of the user's ClassAd expressions, before a run is made."""

from __future__ import annotations

from collections.abc import Iterable

from htdag.errors import OptionError


def check(expressions: Iterable[tuple[str, str]]) -> None:
    """Check expressions that HTCondor would otherwise refuse when a node is submitted.

    If the bindings are not installed, nothing is checked.

    Parameters
    ----------
    expressions : iterable of (str, str)
        Where each was given, and its text.

    Raises
    ------
    OptionError
        If a text is not a ClassAd expression.
    """
    try:
        from htdag.backends.condor.bindings import syntax_problem
    except ImportError:
        return
    for where, text in expressions:
        problem = syntax_problem(text)
        if problem:
            raise OptionError(
                f"{where}: {text} is not a ClassAd expression{problem}; one looks like "
                f'TARGET.Memory > 4000 && OpSysAndVer == "Debian12"'
            )
