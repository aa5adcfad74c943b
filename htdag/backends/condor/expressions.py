"""Checks of the user's ClassAd expressions, before a run is made."""

from __future__ import annotations

from collections.abc import Iterator

from htdag.errors import OptionError
from htdag.plan.model import Node, Plan


def check(plan: Plan) -> None:
    """Check expressions that HTCondor would otherwise refuse when a node is submitted.

    If the bindings are not installed, nothing is checked.

    Parameters
    ----------
    plan : Plan
        The plan.

    Raises
    ------
    OptionError
        If `requirements`, `rank` or an attribute in `submit` is not a ClassAd expression.
    """
    try:
        from htdag.backends.condor.bindings import syntax_problem
    except ImportError:
        return
    for node in plan.nodes_with_jobs:
        for name, text in _expressions(node):
            problem = syntax_problem(text)
            if problem:
                raise OptionError(
                    f"stage {node.stages[0] if node.stages else node.name!r}: {name}: {text} is "
                    f"not a ClassAd expression{problem}; one looks like TARGET.Memory > 4000 && "
                    f'OpSysAndVer == "Debian12"'
                )


def _expressions(node: Node) -> Iterator[tuple[str, str]]:
    options = node.options
    if options.requirements:
        yield "option requirements", options.requirements
    if options.rank:
        yield "option rank", options.rank
    for name, text in options.submit or ():
        if name.startswith("+") or name.upper().startswith("MY."):
            yield f"option submit, {name}", text
