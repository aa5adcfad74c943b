"""The planner's named passes, from stages to a plan.

Each pass takes a draft and returns a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from htdag.options.pipeline_options import Throttles
from htdag.plan.chunk import chunk, stored_sources
from htdag.plan.fuse import fuse
from htdag.plan.lanes import lane
from htdag.plan.layouts import NO_LAYOUTS, Layouts
from htdag.plan.loops import add_check, plan_rounds
from htdag.plan.model import Node, Plan
from htdag.plan.outputs import add_outputs, connect, name_nodes, push_limits
from htdag.plan.parts import StoredSource
from htdag.plan.priorities import prioritize
from htdag.plan.simulate import Capacity, Chain
from htdag.plan.tune import Measures, Settings, tune
from htdag.stages import Iterate

if TYPE_CHECKING:
    import networkx as nx

_NOTHING: Measures = MappingProxyType({})


@dataclass(frozen=True)
class Conditions:
    """What the passes use beside the stages.

    Attributes
    ----------
    measures : mapping
        What earlier runs measured of stages, by the keys of `htdag.plan.stage_keys.stage_keys`.
    capacity : Capacity
        How many jobs can run at once; used only with measures.
    settings : Settings
        The goals; all but `lanes` used only with measures.
    layouts : mapping
        The layouts of the nodes of an earlier run, to be kept
        (`htdag.plan.layouts.layouts_of`).
    """

    measures: Measures = field(default_factory=dict)
    capacity: Capacity = field(default_factory=Capacity)
    settings: Settings = field(default_factory=Settings)
    layouts: Layouts = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A plan in the making.

    Attributes
    ----------
    graph : networkx.DiGraph
        The graph of stages.
    targets : tuple of str
        The target stages.
    name : str
        The pipeline's name.
    conditions : Conditions
        What the passes use beside the stages.
    throttles : Throttles
        The options of the pipeline as a whole.
    loop : Iterate or None
        The loop of which this is a round.
    nodes : tuple of Node
        The nodes so far.
    where : mapping
        The nodes that write the whole values of stages.
    sources : tuple of StoredSource
        The sources that are read by ranges of their items, or bound.
    chains : tuple of Chain
        The chains that can have lanes, or cannot although lanes were requested.
    untuned : tuple of Node
        The nodes before `tune`, from which nodes are laid out again for lanes.
    """

    graph: nx.DiGraph
    targets: tuple[str, ...]
    name: str
    conditions: Conditions
    throttles: Throttles
    loop: Iterate | None = None
    nodes: tuple[Node, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[StoredSource, ...] = ()
    chains: tuple[Chain, ...] = ()
    untuned: tuple[Node, ...] = ()

    @property
    def plan(self) -> Plan:
        """The finished plan."""
        return Plan(
            self.name,
            self.nodes,
            self.targets,
            dict(self.where),
            self.graph,
            self.sources,
            self.throttles,
            chains=self.chains,
        )


def _fuse(draft: Draft) -> Draft:
    return replace(draft, nodes=fuse(draft.graph))


def _add_outputs(draft: Draft) -> Draft:
    return replace(draft, nodes=name_nodes(add_outputs(draft.graph, draft.nodes)))


def _connect(draft: Draft) -> Draft:
    nodes, where = connect(draft.graph, draft.nodes)
    return replace(draft, nodes=nodes, where=where)


def _check(draft: Draft) -> Draft:
    if draft.loop is None:
        return draft
    return replace(draft, nodes=add_check(draft.graph, draft.nodes, draft.where, draft.loop))


def _push_limits(draft: Draft) -> Draft:
    return replace(draft, nodes=push_limits(draft.nodes, draft.targets))


def _store_sources(draft: Draft) -> Draft:
    return replace(draft, sources=stored_sources(draft.graph, draft.nodes))


def _tune(draft: Draft) -> Draft:
    conditions = draft.conditions
    nodes = tune(
        draft.graph,
        draft.name,
        draft.nodes,
        conditions.measures,
        conditions.capacity.slots,
        conditions.settings,
    )
    return replace(draft, nodes=nodes, untuned=draft.nodes)


def _chunk(draft: Draft) -> Draft:
    layouts = draft.conditions.layouts if draft.loop is None else NO_LAYOUTS
    return replace(draft, nodes=chunk(draft.graph, draft.nodes, draft.sources, layouts))


def _lane(draft: Draft) -> Draft:
    def layout(followers: frozenset[str]) -> tuple[Node, ...]:
        nodes = tuple(replace(node, follows=node.name in followers) for node in draft.untuned)
        return _chunk(_tune(replace(draft, nodes=nodes))).nodes

    conditions = draft.conditions
    nodes, chains = lane(
        draft.nodes, layout, conditions.settings.lanes, conditions.capacity, draft.throttles
    )
    return replace(draft, nodes=nodes, chains=chains)


def _plan_rounds(draft: Draft) -> Draft:
    def plan_round(inner: nx.DiGraph, result: str, throttles: Throttles, loop: Iterate) -> Plan:
        draft_of_round = Draft(inner, (result,), draft.name, draft.conditions, throttles, loop)
        return _passed(draft_of_round, "priorities").plan

    nodes = plan_rounds(draft.graph, draft.nodes, draft.sources, draft.throttles, plan_round)
    return replace(draft, nodes=nodes)


def _prioritize(draft: Draft) -> Draft:
    return replace(draft, nodes=prioritize(draft.nodes))


PASSES: Mapping[str, Callable[[Draft], Draft]] = MappingProxyType(
    {
        "fuse": _fuse,
        "outputs": _add_outputs,
        "connect": _connect,
        "check": _check,
        "limits": _push_limits,
        "sources": _store_sources,
        "tune": _tune,
        "chunk": _chunk,
        "lanes": _lane,
        "rounds": _plan_rounds,
        "priorities": _prioritize,
    }
)
"""The passes by name, in their order."""


def _passed(draft: Draft, last: str) -> Draft:
    names = list(PASSES)
    for name in names[: names.index(last) + 1]:
        draft = PASSES[name](draft)
    return draft


def make_plan(
    graph: nx.DiGraph,
    targets: Sequence[str],
    name: str,
    *,
    measures: Measures = _NOTHING,
    capacity: Capacity | None = None,
    settings: Settings | None = None,
    throttles: Throttles | None = None,
    layouts: Layouts = NO_LAYOUTS,
) -> Plan:
    """Plan a graph of stages.

    Parameters
    ----------
    graph : networkx.DiGraph
        The graph of stages, upstream first, as `htdag.Pipeline.graph` is.
    targets : sequence of str
        The target stages.
    name : str
        The pipeline's name.
    measures, capacity, settings, layouts
        As for `Conditions`.
    throttles : Throttles, optional
        The options of the pipeline as a whole.

    Returns
    -------
    Plan
        Equal arguments give equal plans.
    """
    conditions = Conditions(measures, capacity or Capacity(), settings or Settings(), layouts)
    return plan_until("priorities", graph, targets, name, conditions, throttles).plan


def plan_until(
    last: str,
    graph: nx.DiGraph,
    targets: Sequence[str],
    name: str,
    conditions: Conditions | None = None,
    throttles: Throttles | None = None,
) -> Draft:
    """Return the draft that the passes up to the named one of `PASSES` make of a graph."""
    draft = Draft(graph, tuple(targets), name, conditions or Conditions(), throttles or Throttles())
    return _passed(draft, last)
