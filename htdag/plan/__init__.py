"""The planner: pure passes from the graph of stages to a graph of DAGMan nodes."""

from htdag.plan.model import Node, Plan, Round
from htdag.plan.parts import Bind, Input, Output, Reduction, Step, StoredSource, Stream
from htdag.plan.planner import PASSES, Draft, make_plan, plan_until
from htdag.plan.simulate import Chain

__all__ = [
    "PASSES",
    "Bind",
    "Chain",
    "Draft",
    "Input",
    "Node",
    "Output",
    "Plan",
    "Reduction",
    "Round",
    "Step",
    "StoredSource",
    "Stream",
    "make_plan",
    "plan_until",
]
