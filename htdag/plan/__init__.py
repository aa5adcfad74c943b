"""From the graph of stages to a graph of DAGMan nodes, in pure passes."""

from htdag.plan.costs import Chain
from htdag.plan.model import Node, Plan, Round
from htdag.plan.parts import Bind, Input, Operation, Output, Reduction, StoredSource, Stream
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
