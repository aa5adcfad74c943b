"""ClassAd expressions of users, read before a run is made, as far as the bindings can read them."""

from __future__ import annotations

from collections.abc import Iterator

from htdag.errors import OptionError
from htdag.plan.model import Node, Plan


def check(plan: Plan) -> None:
    """Refuse expressions that HTCondor would refuse only when it gets the jobs of their node.

    Where the bindings are not installed nothing is checked.

    Parameters
    ----------
    plan : Plan
        The plan.

    Raises
    ------
    OptionError
        For `requirements`, a `rank` or an attribute in `submit` that is no ClassAd expression.
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
                    f"no ClassAd expression{problem}; one looks like TARGET.Memory > 4000 && "
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
