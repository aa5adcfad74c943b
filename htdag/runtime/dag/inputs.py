"""The inputs of a node's jobs: which files, and which values in them.

A stream is a row of blocks: the item files of one chunk of another node, of one part of such a
chunk, or of one file of a source.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

from .. import chunking, layout
from ..data import itemfile
from ..data.keyed import BY_HASH
from ..files import download, file_references
from ..layout import NodeFiles, RunFiles

if TYPE_CHECKING:
    from ..formats.plan import ChunkingFile, NodeEntry, Plan, StreamEntry
    from ..formats.record import RecordEnd
    from ..formats.task import BindParts, Description, Part, Ranges, StreamParts


class Block(NamedTuple):
    """Values in one file, or in the files of all attempts at one chunk."""

    files: List[str]
    values: int  # how many; -1 if that is not known yet or does not matter
    carries: bool = False  # whether files travel with any of them
    number: Optional[int] = None  # of the first value, if the numbers of values are their keys


class Outcome(NamedTuple):
    """The outcome of a parent's chunk: its sound attempts, and the ends of their records."""

    attempts: List[int]
    ends: List[RecordEnd]


Outcomes = Dict[str, List[Outcome]]


def chunks(run: str, node: NodeEntry) -> int:
    """Return how many chunks a node has; an estimate if data decides that does not exist yet."""
    stored = _stored(run, node["name"]) if node["dynamic"] else None
    return node["chunks"] if stored is None else stored["chunks"]


def _stored(run: str, name: str) -> Optional[ChunkingFile]:
    try:
        path = NodeFiles(run, name).chunking
        stored: ChunkingFile = layout.read_json(path, "chunks", "boundaries")
        return stored
    except FileNotFoundError:
        return None


class Reading:
    """The inputs of all jobs of a node, for one state of its parents.

    Parameters
    ----------
    run : str
        The run directory.
    plan, node : dict
        The plan, and the node of it.
    outcomes : dict or None
        For each parent, the outcomes of its chunks; None before they ran, for a node about which
        the plan knows enough: then first attempts are assumed to do everything.
    """

    def __init__(self, run: str, plan: Plan, node: NodeEntry, outcomes: Optional[Outcomes]) -> None:
        self._run = run
        self._plan = plan
        self._node = node
        self._outcomes = outcomes
        source = node["input"]
        self._view = source["view"]
        self._plain = source["plain"]
        self._by_block = node["mode"] == "reduce" or node["by_chunk"]
        # In lanes a chunk reads that of the node before it, whose other chunks may not exist yet.
        self._aligned = bool(node.get("lane_parent"))
        self._streams: List[List[Block]] = []
        if not self._plain and self._view not in BY_HASH:
            self._streams = [
                self._blocks(stream, counted=not self._by_block and not self._aligned)
                for stream in source["streams"]
            ]
        self._totals = [sum(block.values for block in blocks) for blocks in self._streams]
        self._boundaries = self._find_boundaries() if node["mode"] != "loop" else []

    @property
    def blocks(self) -> List[List[Block]]:
        """The blocks of each stream that is read."""
        return self._streams

    def _find_boundaries(self) -> List[int]:
        node = self._node
        if node["boundaries"] is not None:
            return list(node["boundaries"])
        if self._view in BY_HASH:
            return list(range(node["chunks"] + 1))
        name = node["name"]
        stored = _stored(self._run, name)
        if stored is not None and NodeFiles(self._run, name).attempts():
            # Chunks that jobs have worked on keep their boundaries.
            return list(stored["boundaries"])
        new = self._new_boundaries()
        content = json.dumps({"chunks": len(new) - 1, "boundaries": new})
        layout.write_aside(NodeFiles(self._run, name).chunking, content.encode())
        return new

    def _new_boundaries(self) -> List[int]:
        node, source = self._node, self._node["input"]
        if node["mode"] == "reduce":
            blocks = len(self._streams[0])
            jobs = 1 if node["fan_in"] is None else -(-blocks // node["fan_in"])
            return chunking.even(blocks, max(1, jobs))
        total = chunking.view_total(self._view, source["number"], source["limit"], self._totals)
        if self._view == "sort_by":
            return [0, total]
        plainly = self._view == "items" and source["limit"] is None
        counts = [block.values for block in self._streams[0]] if plainly else []
        return chunking.boundaries(total, node["size"], node["per_job"], node["most"], counts)

    def describe(self, number: int, todo: Ranges) -> Tuple[Description, List[str]]:
        """Return the description of one job, and the files to transfer with it.

        Parameters
        ----------
        number : int
            The chunk.
        todo : list of ranges or None
            The items left to do; None for all.
        """
        source = self._node["input"]
        transfer: Dict[str, None] = {}
        streams: List[StreamParts]
        start, stop = self._boundaries[number], self._boundaries[number + 1]
        counted = True
        if self._plain:
            streams = [{"parts": self._plain_parts(number, start, stop, transfer)}]
            start, stop = 0, stop - start
        elif self._view in BY_HASH:
            blocks = self._blocks(source["streams"][0], part=number)
            streams = [{"parts": self._whole(blocks, transfer)}]
            counted = False
        elif self._by_block:
            streams = [{"parts": self._whole(self._streams[0][start:stop], transfer)}]
            counted = False
        elif self._aligned:
            streams = [{"parts": self._whole(self._streams[0][number : number + 1], transfer)}]
        else:
            ranges = chunking.needed(self._view, source["number"], self._totals, start, stop)
            streams = [
                {
                    "parts": self._sliced(blocks, first, last, transfer),
                    "first": first,
                    "total": total,
                }
                for blocks, total, (first, last) in zip(self._streams, self._totals, ranges)
            ]
        description: Description = {
            "view": self._view,
            "number": source["number"],
            "reverse": source["reverse"],
            "streams": streams,
            "start": start,
            "stop": stop if counted else None,
            "binds": self._binds(transfer),
            "todo": todo,
        }
        brought = self._brought(transfer)
        if brought:
            description["urls"] = brought
        return description, list(transfer)

    def _brought(self, transfer: Dict[str, None]) -> List[str]:
        """Return the URLs that HTCondor should fetch, without those that it cannot."""
        urls = [name for name in transfer if "://" in name]
        if not urls:
            return []
        own = self._node.get("input_urls", [])
        brought = [url for url in download.transferable([*own, *urls]) if url not in own]
        for url in urls:
            if url not in brought:
                del transfer[url]
        return brought

    def _plain_parts(
        self, number: int, start: int, stop: int, transfer: Dict[str, None]
    ) -> List[Part]:
        items = NodeFiles("", self._node["name"]).source_items(number)
        transfer[items] = None
        block = Block([items], stop - start, self._node["input"]["carries"])
        return [self._part(block, None, transfer)]

    def _binds(self, transfer: Dict[str, None]) -> Dict[str, BindParts]:
        return {
            name: {
                "stage": bind["stage"],
                "one": bind["one"],
                "parts": self._whole(self._blocks(bind), transfer),
            }
            for name, bind in self._node["binds"].items()
        }

    def _blocks(
        self, stream: StreamEntry, *, part: Optional[int] = None, counted: bool = False
    ) -> List[Block]:
        """Return the blocks of a stream, or those of one part of the chunks of its node.

        Their values are `counted` if that decides what is read: for a chunk that failed and was
        retried, that needs a look at its files.
        """
        stage = stream["stage"]
        if stream["node"] is None:
            return _source_blocks(self._plan, stage)
        parent = self._plan["by_name"][stream["node"]]
        if self._outcomes is None:
            return _planned_blocks(parent, stage, _stems(parent, stage, part))
        outcomes = self._outcomes[parent["name"]]
        return outcome_blocks(self._run, self._plan, stream, outcomes, part=part, counted=counted)

    def _part(self, block: Block, span: Optional[List[int]], transfer: Dict[str, None]) -> Part:
        """Describe values of a block, and note what has to be transferred to read them."""
        for file in block.files:
            transfer[file] = None
        if block.carries:
            travelling = itemfile.references(
                [os.path.join(self._run, file) for file in block.files]
            )
            for references in travelling if span is None else itertools.islice(travelling, *span):
                for reference in references:
                    transfer[file_references.sent(reference)] = None
        part: Part = {"files": block.files, "range": span}
        if block.number is not None:
            part["number"] = block.number + (span[0] if span else 0)
        return part

    def _whole(self, blocks: List[Block], transfer: Dict[str, None]) -> List[Part]:
        return [self._part(block, None, transfer) for block in blocks]

    def _sliced(
        self, blocks: List[Block], start: int, stop: int, transfer: Dict[str, None]
    ) -> List[Part]:
        counts = [block.values for block in blocks]
        return [
            self._part(
                blocks[piece.block], None if piece.whole else [piece.start, piece.stop], transfer
            )
            for piece in chunking.slices(counts, start, stop)
        ]


def outcome_blocks(
    run: str,
    plan: Plan,
    stream: StreamEntry,
    outcomes: List[Outcome],
    *,
    part: Optional[int] = None,
    counted: bool = True,
) -> List[Block]:
    """Return the blocks of a stream that a node has written, or those of one part of its chunks."""
    parent = plan["by_name"][stream["node"] or ""]
    files = NodeFiles("", parent["name"])
    return [
        Block(
            _files(files, number, outcome.attempts, stem),
            _count(run, parent, number, outcome, stem) if counted else -1,
            _carries(parent, outcome, stem),
        )
        for number, outcome in enumerate(outcomes)
        for stem in _stems(parent, stream["stage"], part)
    ]


def _stems(parent: NodeEntry, stage: str, part: Optional[int]) -> List[str]:
    parts = parent["parts"].get(stage, 0)
    stems = [stage] if not parts else [layout.part(stage, number) for number in range(parts)]
    return stems if part is None else stems[part : part + 1]


def _source_blocks(plan: Plan, name: str) -> List[Block]:
    source = plan["sources"][name]
    edges = source["boundaries"]
    if "cells" in source:
        return [
            Block(files, edges[number + 1] - edges[number], source["carries"], first)
            for number, (files, first) in enumerate(zip(source["cells"], source["numbers"]))
        ]
    return [
        Block(
            [RunFiles().stored_items(name, number)],
            edges[number + 1] - edges[number],
            source["carries"],
        )
        for number in range(len(edges) - 1)
    ]


def _planned_blocks(parent: NodeEntry, stage: str, stems: List[str]) -> List[Block]:
    edges = parent["boundaries"]
    combines = parent["mode"] == "reduce"  # then each job gives one value
    blocks = []
    files = NodeFiles("", parent["name"])
    for number in range(parent["chunks"]):
        count = 1 if combines else -1
        if edges and stage in parent["known"] and not combines:
            count = edges[number + 1] - edges[number]
        for position, stem in enumerate(stems):
            of = len(stems)
            share = count if of == 1 else chunking.share_of(count, position, of)
            blocks.append(Block(_files(files, number, [1], stem), share))
    return blocks


def _files(files: NodeFiles, chunk: int, attempts: List[int], stem: str) -> List[str]:
    return [files.attempt(chunk, number).output(stem) for number in attempts]


def _count(run: str, parent: NodeEntry, chunk: int, outcome: Outcome, stem: str) -> int:
    which = parent["files"].index(stem)
    done = sum(end["done"] for end in outcome.ends)
    if len(outcome.ends) == 1 or all(end["items"] in (None, done) for end in outcome.ends):
        return sum(end["values"][which] for end in outcome.ends)
    # Attempts that overlap; where two hold the same item one of them counts.
    files = NodeFiles(run, parent["name"])
    return itemfile.merged_count(_files(files, chunk, outcome.attempts, stem))


def _carries(parent: NodeEntry, outcome: Outcome, stem: str) -> bool:
    which = parent["files"].index(stem)
    return any(end["carrying"][which] for end in outcome.ends if "carrying" in end)
