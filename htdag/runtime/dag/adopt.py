"""Reuse: what another run has finished of a node's items becomes the node's first attempt.

This is done when a node is laid out: by htdag itself if all that the node reads exists when the run
is created, else by the POST script of the last node before it. The second attempt computes the
rest, as after a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

from .. import lanes, layout
from ..data import frames, item_digests, itemfile, recordfile
from ..layout import AttemptFiles, NodeFiles
from . import inputs, reusable

if TYPE_CHECKING:
    from ..formats.plan import NodeEntry
    from ..formats.record import RecordEnd
    from ..formats.task import Description, Program


class Taken(NamedTuple):
    """How many of a node's items were taken over."""

    items: int
    reused: int
    unfinished: int  # of the rest: items that the other run had but did not finish
    same: bool  # whether all of its input is as in the other run, in the same order


def is_wanted(run: str, node: NodeEntry, lane: int = 0) -> bool:
    """Return whether a node may take items over, has not yet, and none of its jobs has run.

    With a `lane`, return that for the lane.
    """
    files = NodeFiles(run, node["name"])
    if not node.get("reuse") or os.path.exists(files.taken(lane)):
        return False
    made = files.attempts()
    return not made or (bool(lane) and made.keys().isdisjoint(lanes.chunks(node, lane, 0)))


def taken(run: str, node: NodeEntry) -> Optional[Taken]:
    """Return how many of a node's items were taken over; None if that is not known yet."""
    counts = []
    for unit in lanes.units(node):
        try:
            path = NodeFiles(run, unit.node).taken(unit.lane)
            content = layout.read_json(path, *Taken._fields)
            counts.append(Taken(**{name: content[name] for name in Taken._fields}))
        except FileNotFoundError:
            return None
    items, reused, unfinished, same = zip(*counts)
    return Taken(sum(items), sum(reused), sum(unfinished), all(same))


def take_over(run: str, node: NodeEntry, reading: inputs.Reading, lane: int = 0) -> None:
    """Make first attempts of a node's chunks, or a lane's, from what another run has finished."""
    files = NodeFiles(run, node["name"])
    pack = reusable.read(files.kept)
    chunks = _Chunks(run, node, reading, lane)
    reused = chunks.fill(pack) if pack.atoms or pack.chunks else 0
    taken_items = chunks.tell(pack, reused)
    content = json.dumps(taken_items._asdict()).encode()
    layout.write_aside(files.taken(lane), content)


class _Chunks:
    """The chunks of a node that will be computed, with the content of their items."""

    def __init__(self, run: str, node: NodeEntry, reading: inputs.Reading, lane: int) -> None:
        self._files = NodeFiles(run, node["name"])
        self._node = node
        self._ids: List[List[bytes]] = []
        self._keys: List[List[str]] = []
        self._descriptions: List[Description] = []
        reader = item_digests.Reader(run)
        self._lane = lane
        self._numbers = lanes.chunks(node, lane, inputs.chunks(run, node))
        for number in self._numbers:
            description, _ = reading.describe(number, None)
            self._descriptions.append(description)
            items = list(reader.items(description, node))
            self._ids.append([item_id for _, item_id in items])
            self._keys.append([key for key, _ in items])
        program: Program = layout.read_json(self._files.program, "outputs")
        self._whole_only = node["mode"] == "reduce" or any(
            output["split"] == "rank" for output in program["outputs"]
        )
        self._placed: List[Dict[int, reusable.Atom]] = [{} for _ in self._ids]
        self._free: List[List[bool]] = [[True] * len(ids) for ids in self._ids]

    def fill(self, pack: reusable.Pack) -> int:
        """Write the first attempts, and return how many items they finish."""
        reused = 0
        whole = set()
        for number, (ids, keys) in enumerate(zip(self._ids, self._keys)):
            kept_chunk = pack.chunks.get(reusable.whole_digest(ids, keys))
            if (
                kept_chunk is not None
                and kept_chunk.items == len(ids)
                and self._fits(number, kept_chunk)
            ):
                self._link(number, kept_chunk, pack)
                self._free[number] = [False] * len(ids)
                whole.add(number)
                reused += len(ids)
        if self._whole_only:
            return reused
        used = self._used_by(whole)
        # If several items are the same, each takes its own if possible.
        self._place(pack, used, same_keys=True)
        if not self._lane:  # another lane may have taken what has other keys
            self._place(pack, used, same_keys=False)
        for number, placed in enumerate(self._placed):
            if placed:
                self._compose(number, placed, pack)
                reused += sum(len(atom.ids) for atom in placed.values())
        return reused

    def tell(self, pack: reusable.Pack, reused: int) -> Taken:
        """Return the counts of what was taken over."""
        missing = Counter(
            item_id
            for ids, free in zip(self._ids, self._free)
            for item_id, is_free in zip(ids, free)
            if is_free
        )
        left_counts = Counter(pack.left)
        unfinished = sum(min(count, left_counts[item_id]) for item_id, count in missing.items())
        sequence = reusable.sequence_digest(self._node["name"], zip(self._ids, self._keys))
        same = not self._lane and sequence in pack.sequences
        return Taken(sum(map(len, self._ids)), reused, unfinished, same)

    def _used_by(self, whole: Any) -> Counter[Tuple[bytes, str]]:
        """Return the items, with their keys, of the chunks that were taken as a whole."""
        used: Counter[Tuple[bytes, str]] = Counter()
        for number in whole:
            used.update(zip(self._ids[number], self._keys[number]))
        return used

    def _place(
        self, pack: reusable.Pack, used: Counter[Tuple[bytes, str]], *, same_keys: bool
    ) -> None:
        """Find places for atoms that have none yet, each once."""
        waiting: Dict[bytes, List[reusable.Atom]] = {}
        placed = {id(atom) for chunk in self._placed for atom in chunk.values()}
        left = Counter(used)
        for atom in reversed(pack.atoms):
            first = (atom.ids[0], atom.keys[0])
            if left[first]:
                left[first] -= 1  # it stands in a chunk that was taken as it is
            elif id(atom) not in placed:
                waiting.setdefault(atom.ids[0], []).append(atom)
        for number, (ids, keys) in enumerate(zip(self._ids, self._keys)):
            free = self._free[number]
            for position, item_id in enumerate(ids):
                candidates = waiting.get(item_id)
                if not candidates or not free[position]:
                    continue
                for which in range(len(candidates) - 1, -1, -1):
                    atom = candidates[which]
                    stop = position + len(atom.ids)
                    if (
                        ids[position:stop] == atom.ids
                        and all(free[position:stop])
                        and (not same_keys or keys[position:stop] == atom.keys)
                    ):
                        self._placed[number][position] = atom
                        free[position:stop] = [False] * len(atom.ids)
                        del candidates[which]
                        break

    def _fits(self, number: int, chunk: reusable.Chunk) -> bool:
        """Return whether returned files of a chunk can be where its values say."""
        return chunk.returned in ("", self._first_attempt(number).under("").returned)

    def _first_attempt(self, number: int) -> AttemptFiles:
        return self._files.attempt(self._numbers[number], 1)

    def _link(self, number: int, chunk: reusable.Chunk, pack: reusable.Pack) -> None:
        """Take the files of a chunk as they are."""
        self._describe(number)
        job = self._first_attempt(number)
        if chunk.tree is not None:
            reusable.link_tree(pack.path(chunk.tree), job.returned)
        for file, path in zip(chunk.files, job.outputs(self._node["files"])):
            layout.link_or_copy(pack.path(file), path)
        for log, path in zip(chunk.logs, (job.stdout, job.stderr)):
            layout.link_or_copy(pack.path(log), path)
        start = chunk.start
        recordfile.start(job, start["host"] if start else "", start["python"] if start else "")
        for entry in chunk.streams:
            recordfile.append(job.record, "streams", entry)
        end: RecordEnd = {
            **chunk.end,
            "whole": True,
            "remaining": 0,
            "failed": 0,
            "reused": chunk.items,
        }
        end.pop("measured", None)
        end.pop("killed", None)
        recordfile.append(job.record, "end", end, sync=True)

    def _describe(self, number: int) -> None:
        """Write what the first attempt reads, by which later runs know its results."""
        content = json.dumps(self._descriptions[number]).encode()
        layout.write_aside(self._first_attempt(number).description, content, sync=False)

    def _compose(self, number: int, placed: Dict[int, reusable.Atom], pack: reusable.Pack) -> None:
        """Write the files of a first attempt that has only some items of a chunk."""
        job = self._first_attempt(number)
        paths = job.outputs(self._node["files"])
        keys = self._keys[number]
        values, sizes = [], []
        try:
            for which, path in enumerate(paths):
                writer = itemfile.ItemWriter(path)
                try:
                    for position in sorted(placed):
                        atom = placed[position]
                        place = atom.places[which]
                        if place is not None:
                            new = keys[position : position + len(atom.ids)]
                            moved = _Moved(atom, position, new)
                            _copy(pack.path(place[0]), place[1], place[2], moved, writer)
                    sizes.append(writer.close(sync=True))
                    values.append(writer.values)
                finally:
                    writer.discard()
        except (OSError, itemfile.DamagedFile):
            # It can be computed: no reason to fail.
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
            placed.clear()
            return
        self._describe(number)
        done = sum(len(atom.ids) for atom in placed.values())
        python = "%s %s" % (sys.version.split()[0], sys.executable)
        recordfile.start(job, os.uname().nodename, python)
        end: RecordEnd = {
            "items": len(keys),
            "done": done,
            "failed": 0,
            "remaining": len(keys) - done,
            "whole": True,
            "values": values,
            "sizes": sizes,
            "seconds": 0.0,
            "reused": done,
        }
        if self._node["carries_files"]:
            references = [itemfile.references([path]) for path in paths]
            end["returned"] = 0
            end["carrying"] = [sum(map(bool, each)) for each in references]
        recordfile.append(job.record, "end", end, sync=True)


class _Moved:
    """The new positions and keys of the items of an atom."""

    def __init__(self, atom: reusable.Atom, position: int, keys: List[str]) -> None:
        self.by = position - atom.first
        self._keys = {} if keys == atom.keys else dict(zip(atom.keys, keys))

    def key(self, key: str) -> str:
        """Return the new key of a value, with what `flat_map` added to the key of its item."""
        stem, rest = key, ""
        while self._keys:
            if stem in self._keys:
                return self._keys[stem] + rest
            stem, point, number = stem.rpartition(".")
            if not point:
                break
            rest = point + number + rest
        return key


def _copy(path: str, start: int, stop: int, moved: _Moved, writer: itemfile.ItemWriter) -> None:
    with open(path, "rb") as file:
        file.seek(start)
        for stored in frames.read(file, path, stop):
            if stored.kind != frames.END:
                key = moved.key(stored.key.decode())
                writer.value(key, stored.payload, stored.buffers, stored.files)
            if stored.flags & frames.ENDS:
                writer.end(stored.first + moved.by, stored.last + moved.by)
