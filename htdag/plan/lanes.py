"""The pass *lane*: cut chains of nodes into lanes if that is faster.

With lanes, the work after a chunk need not wait for all chunks.

A node that has the chunks of the node before it can start on a chunk as soon as that is written. To
DAGMan a lane, which is a range of the chunks, is a node of its own with DAGMan cycles of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from htdag.common.text import duration
from htdag.options.pipeline_options import Throttles
from htdag.options.resources import fixed
from htdag.plan.model import Node
from htdag.plan.simulate import Capacity, Chain, Work, makespan

if TYPE_CHECKING:
    import networkx as nx

MOST_LANES = 16
LEAST_GAIN = 0.1
"""Lanes are made if they save this share of the time"""
LEAST_SECONDS = 10.0
"""and so many seconds: each is one more node for DAGMan, and for whoever reads its logs."""

_LATE = "the chunks of all of them are known only when they run"

Layout = Callable[[frozenset[str]], tuple[Node, ...]]
"""Returns the chunked nodes of a plan in which the named nodes follow the one before them."""


def lane(
    plain: tuple[Node, ...],
    layout: Layout,
    wanted: int | None,
    capacity: Capacity,
    throttles: Throttles,
) -> tuple[tuple[Node, ...], tuple[Chain, ...]]:
    """Choose lanes for the chains of a plan.

    Parameters
    ----------
    plain : tuple of Node
        All nodes, chunked, without lanes.
    layout : callable
        Takes the names of nodes that should have the chunks of the node before them, and returns
        all nodes, chunked.
    wanted : int or None
        How many lanes a chain should have; None: the fastest number according to earlier runs.
    capacity : Capacity
        How many jobs can run at once, and what a node costs.
    throttles : Throttles
        The options of the pipeline as a whole.

    Returns
    -------
    nodes : tuple of Node
        The nodes in topological order.
    chains : tuple of Chain
        Each chain that could be in lanes, with its time with and without; and, if lanes were
        requested, each pair of nodes that cannot be.
    """
    if wanted == 1:
        return plain, ()
    trees, refused = _trees(plain)
    # Users who did not request lanes need not read why nodes cannot have them.
    chains = [] if wanted is None else refused
    if not trees:
        return plain, tuple(chains)
    alone = {node.name: node for node in plain}
    if wanted is None:
        for tree in trees:
            why = _unmeasured(tree, alone)
            if why:
                chains.append(Chain(tree, 1, f"{why}; lanes=N would cut them into N lanes"))
        trees = [tree for tree in trees if not _unmeasured(tree, alone)]
        if not trees:
            return plain, tuple(chains)
    followers = frozenset(name for tree in trees for name in tree[1:])
    followed = {node.name: node for node in layout(followers)}
    decided = [_decided(tree, alone, followed, wanted, capacity, throttles) for tree in trees]
    followers = frozenset(name for chain in decided if chain.lanes > 1 for name in chain.nodes[1:])
    if not followers:
        return plain, (*chains, *decided)
    nodes = layout(followers)
    by_name = {node.name: node for node in nodes}
    decided = [_within(chain, by_name) for chain in decided]
    chosen = {name: chain.lanes for chain in decided for name in chain.nodes}
    return tuple(replace(node, lanes=chosen.get(node.name, 1)) for node in nodes), (
        *chains,
        *decided,
    )


def _within(chain: Chain, nodes: dict[str, Node]) -> Chain:
    """Return a chain without the lanes that depend on earlier nodes, which have none after all."""
    if any(nodes[name].dynamic for name in chain.nodes):
        return replace(chain, lanes=1, reason=_LATE)
    return replace(chain, lanes=min(chain.lanes, nodes[chain.nodes[0]].chunks))


def can_lane(node: Node, before: Node, first: Node, graph: nx.DiGraph) -> tuple[bool, str]:
    """Return whether a node can continue in the lanes of the node that it reads.

    Parameters
    ----------
    node, before, first : Node
        The node, the node before it, and the node in which these lanes begin (perhaps the same).
    graph : networkx.DiGraph
        All nodes and their edges, with the attribute ``node``.

    Returns
    -------
    bool, str
        Whether it can; if not, the reason.
    """
    for each in (before, node):
        problem = _whole_only(each)
        if problem:
            return False, problem
    if first.dynamic or not first.boundaries:
        return False, f"the chunks of {first.name} are known only when it runs"
    if first.chunks < 2:
        return False, f"{first.name} has 1 job"
    if node.options.chunk_size is not None and not _same_chunks(node, before):
        return False, f"its chunk_size gives it other chunks than {before.name} has"
    import networkx as nx  # late, since importing it takes longer than all of htdag

    for bind in node.binds:
        if bind.node is None:
            continue
        if nx.has_path(graph, first.name, bind.node):
            return False, f"its bind waits for {bind.stage}, and so for all of {first.name}"
        if not graph.nodes[bind.node]["node"].settled:
            return False, f"the number of jobs of {bind.node}, which it binds, is not known yet"
    return True, ""


def _same_chunks(node: Node, before: Node) -> bool:
    return bool(node.boundaries) and node.boundaries == before.boundaries and not before.by_chunk


def _whole_only(node: Node) -> str:
    """Return why the jobs of a node must stay one cluster, or ""."""
    if node.options.on_error == "skip":
        return f"max_errors counts the failed items of all of {node.name}"
    for name in ("max_materialize", "max_idle"):
        if getattr(node.options, name) is not None:
            return f"{name} is for all jobs of {node.name} together"
    return ""


def _trees(nodes: Sequence[Node]) -> tuple[list[tuple[str, ...]], list[Chain]]:
    """Return the nodes that could share lanes, first ones first; and those that could not."""
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from((node.name, {"node": node}) for node in nodes)
    graph.add_edges_from((parent, node.name) for node in nodes for parent in node.parents)
    by_name = {node.name: node for node in nodes}
    first_of: dict[str, str] = {}
    refused = []
    for node in nodes:
        before = by_name.get(str(node.input.node))
        if before is None or node.reduction is not None or node.input.is_view:
            continue
        if before.reduction is not None or before.input.is_partitioned:
            continue  # one value; or chunks that are partitions of keys
        first = by_name[first_of.get(before.name, before.name)]
        can, reason = can_lane(node, before, first, graph)
        if can:
            first_of[node.name] = first.name
        else:
            refused.append(Chain((before.name, node.name), 1, reason))
    members: dict[str, list[str]] = {}
    for name, root in first_of.items():
        members.setdefault(root, [root]).append(name)
    return [tuple(names) for names in members.values()], refused


def _decided(
    tree: tuple[str, ...],
    plain: dict[str, Node],
    followed: dict[str, Node],
    wanted: int | None,
    capacity: Capacity,
    throttles: Throttles,
) -> Chain:
    """Compare running the nodes of a tree with and without lanes, and choose."""
    chunks = followed[tree[0]].chunks
    if any(followed[name].dynamic or followed[name].chunks != chunks for name in tree):
        return Chain(tree, 1, _LATE)
    works = _works(tree, followed)
    counts = _lane_counts(chunks) if wanted is None else [min(wanted, chunks)]
    if works is None:
        why = _unmeasured(tree, followed)
        return Chain(tree, counts[0], f"as given (lanes={wanted}); {why}")
    before = makespan(_works(tree, plain) or works, 1, capacity)
    times = {count: makespan(works, count, capacity) for count in counts}
    tried = min(times, key=lambda count: (round(times[count], 3), count))
    saved = before - times[tried]
    limit = _throttled(tree, followed, throttles)
    lanes = 1
    if wanted is not None:
        lanes, reason = tried, f"as given (lanes={wanted})"
    elif limit:
        reason = f"{limit} counts lanes as nodes"
    elif saved >= max(LEAST_SECONDS, LEAST_GAIN * before):
        lanes, reason = tried, f"saves about {duration(saved)}"
    elif saved > 0:
        reason = f"lanes would save too little (about {duration(saved)})"
    else:
        reason = "lanes would save nothing"
    return Chain(tree, lanes, reason, before, times[tried], tried)


def _unmeasured(tree: tuple[str, ...], nodes: dict[str, Node]) -> str:
    names = [name for name in tree if nodes[name].cost is None]
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"nothing was measured of {', '.join(names[:3])}{more}"


def _works(tree: tuple[str, ...], nodes: dict[str, Node]) -> list[Work] | None:
    """Return the work of the nodes of a tree; None if it was not measured."""
    works = []
    for name in tree:
        node = nodes[name]
        cost = node.cost
        if cost is None:
            return None
        share = cost.items / node.chunks
        works.append(
            Work(
                jobs=node.chunks,
                seconds=share * cost.seconds,
                slowest=share * max(cost.slowest, cost.seconds),
                one_in=max(1, round(cost.jobs)),
                cpus=fixed(node.options.request_cpus) or 1,
                gpus=fixed(node.options.request_gpus) or 0,
                after=tree.index(str(node.input.node)) if name != tree[0] else None,
            )
        )
    return works


def _lane_counts(chunks: int) -> list[int]:
    """Return the numbers of lanes to compare."""
    return sorted({min(count, chunks) for count in (2, 4, 8, MOST_LANES)})


def _throttled(tree: tuple[str, ...], nodes: dict[str, Node], throttles: Throttles) -> str:
    """Return which limit on nodes would hold lanes back, or ""."""
    if throttles.max_jobs_submitted is not None:
        return "max_jobs_submitted"
    names = [nodes[name].options.category for name in tree]
    return next((f"maxjobs of category {name}" for name in names if name is not None), "")
