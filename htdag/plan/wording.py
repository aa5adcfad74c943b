"""Explanations, in words, of the number of jobs of nodes."""

from __future__ import annotations

from collections.abc import Sequence

from htdag.common.text import counted
from htdag.plan.model import Node
from htdag.stages.operations import Zip


def jobs_of(node: Node) -> str:
    """Return how many jobs a node has, in words, or about how many if data decides."""
    is_exact = node.settled or node.input.is_sorted  # which is always one job
    size = counted(node.chunks, "job") if is_exact else f"about {counted(node.chunks, 'job')}"
    return f"{size} in {node.lanes} lanes" if node.lanes > 1 else size


def left_out(node: Node, totals: Sequence[int]) -> str:
    """Return, in words, what a `zip` of stages with so many items leaves out, or ""."""
    if not isinstance(node.input.operation, Zip) or len(set(totals)) == 1:
        return ""
    longer = {
        stream.stage: f"{total - min(totals):,} of {stream.stage}"
        for stream, total in zip(node.input.streams, totals, strict=True)
        if total > min(totals)
    }
    return f"zip ends with the shortest, and leaves out {', '.join(longer.values())}"


def reason_of(
    node: Node, before_chunks: int, estimate: int, chunks: int, known: bool, most: int
) -> str:
    """Return why a node that reads other nodes or a view has so many jobs.

    Parameters
    ----------
    node : Node
        The node.
    before_chunks : int
        How many chunks the (first) node that it reads has.
    estimate, chunks : int
        The estimated number of its items, and the number of its jobs.
    known : bool
        Whether the number of its items is known before it runs.
    most : int
        How many jobs it may have by default.
    """
    size, before = node.options.chunk_size, node.input.streams[0].node
    again = "" if known else f"laid out again by what {' and '.join(node.parents[:3])} made"
    if not known and not node.parents:
        again = "laid out again in each round"
    if node.jobs:
        return again  # the number of jobs was explained where it was found
    if size is not None:
        about = "" if known else "about "
        text = f"{about}{counted(estimate, 'item')} in {counted(chunks, 'job')} (chunk_size={size})"
    elif node.input.is_view or before is None:
        text = f"{counted(estimate, 'item')} in {counted(chunks, 'job')}"
        text += f" (at most {most} by default)"
    elif chunks == before_chunks:
        text = f"{counted(chunks, 'job')}, one for each chunk of {before}"
    else:
        text = (
            f"{before_chunks:,} chunks of {before} in {counted(chunks, 'job')} "
            f"(at most {most} by default)"
        )
    return f"{text}; {again}" if again else text
