"""From the graph of stages to a graph of DAGMan nodes, in pure passes."""

from htdag.plan.costs import Chain
from htdag.plan.model import (
    Bind,
    Input,
    Node,
    Operation,
    Output,
    Plan,
    Reduction,
    Round,
    StoredSource,
    Stream,
)
from htdag.plan.planner import make_plan

__all__ = [
    "Bind",
    "Chain",
    "Input",
    "Node",
    "Operation",
    "Output",
    "Plan",
    "Reduction",
    "Round",
    "StoredSource",
    "Stream",
    "make_plan",
]
