"""Packs: folders with what the nodes of a run have finished, written for another run."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

from .. import layout, task
from ..data import item_digests, itemfile, recordfile
from ..layout import AttemptFiles, NodeFiles
from . import progress, reusable

if TYPE_CHECKING:
    from ..formats.pack import AtomContent, ChunkContent, FilePlace, PackLine
    from ..formats.plan import NodeEntry
    from ..formats.record import RecordEnd, RecordStart

Keep = Callable[[str], bool]


class PackWriter:
    """Writes a folder with what nodes of one or more runs have finished."""

    def __init__(self, folder: str) -> None:
        layout.make_folder(folder)
        self._folder = folder
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        index = os.open(os.path.join(folder, layout.PACK_INDEX), flags, 0o600)
        self._index = os.fdopen(index, "a", encoding="utf-8")
        self._files = len(os.listdir(folder)) - 1

    def close(self) -> None:
        self._index.flush()
        os.fsync(self._index.fileno())
        self._index.close()

    def add_node(self, run: str, node: NodeEntry, keep: Optional[Keep] = None) -> None:
        """Add what a node of a run has finished, except for items whose keys `keep` refuses.

        No job of the run may be running.
        """
        progress.finish_killed(run, node)
        reader = item_digests.Reader(run)
        chunks = [
            self._add_chunk(run, node, state, reader, keep) if state.last_attempt else None
            for state in progress.examine(run, node)
        ]
        read = [chunk for chunk in chunks if chunk is not None]
        if len(read) == len(chunks):
            digest = reusable.sequence_digest(node["name"], read).hex()
            self._write({"kind": "sequence", "content": {"digest": digest}})

    def add_pack(self, folder: str) -> None:
        """Add the content of another such folder that was not used yet."""
        for line in reusable.lines(folder):
            if line["kind"] == "atom":
                atom = line["content"]
                numbers = {place[0] for place in atom["places"] if place}
                moved = {n: self._link(reusable.file(folder, n)) for n in sorted(numbers)}
                atom["places"] = [
                    place and (moved[place[0]], *place[1:]) for place in atom["places"]
                ]
            elif line["kind"] == "chunk":
                chunk = line["content"]
                chunk["files"] = [self._link(reusable.file(folder, n)) for n in chunk["files"]]
                chunk["logs"] = [self._link(reusable.file(folder, n)) for n in chunk["logs"]]
                if chunk["tree"] is not None:
                    chunk["tree"] = self._link_tree(reusable.file(folder, chunk["tree"]))
            self._write(line)

    def _add_chunk(
        self,
        run: str,
        node: NodeEntry,
        state: progress.ChunkState,
        reader: item_digests.Reader,
        keep: Optional[Keep],
    ) -> Optional[Tuple[List[bytes], List[str]]]:
        """Add what is finished of a chunk; return what it reads, or None if that is unknown."""
        files = NodeFiles(run, node["name"])
        try:
            description = task.read_description(files.attempt(state.number, state.last_attempt))
        except FileNotFoundError:
            return None
        try:
            items = list(reader.items(description, node))
        except itemfile.DamagedFile:
            return None  # what it read no longer exists, so it is unknown
        ids = [item_id for _, item_id in items]
        keys = [key for key, _ in items]
        refused = {n for n, key in enumerate(keys) if keep is not None and not keep(key)}
        if node["mode"] == "reduce":
            done = set(range(len(ids))) if state.complete and not refused else set()
        else:
            done = set()
        attempts = state.attempts[-1:] if node["mode"] == "reduce" else state.attempts
        if not refused and len(attempts) == 1 and state.complete:
            job = files.attempt(state.number, attempts[0].number)
            self._add_whole(job, attempts[0].end, node, ids, keys)
            if node["returns_files"]:
                done = set(range(len(ids)))
        # Values say where returned files are: in the folder of their chunk.
        if node["mode"] != "reduce" and not node["returns_files"]:
            taken: Dict[int, reusable.Atom] = {}
            for attempt in attempts:
                job = files.attempt(state.number, attempt.number)
                for atom in _atoms(job, node, ids, keys):
                    inside = range(atom.first, atom.first + len(atom.ids))
                    if not refused.intersection(inside):
                        done.update(inside)
                        taken[atom.first] = atom
            links: Dict[str, int] = {}
            for atom in taken.values():
                self._write_atom(atom, links)
        left = [ids[n].hex() for n in range(len(ids)) if n not in done]
        if left:
            self._write({"kind": "left", "content": {"ids": left}})
        return ids, keys

    def _add_whole(
        self,
        job: AttemptFiles,
        end: RecordEnd,
        node: NodeEntry,
        ids: List[bytes],
        keys: List[str],
    ) -> None:
        logs = [job.stdout, job.stderr]
        start: Optional[RecordStart] = None
        streams = []
        for line in recordfile.lines(job.record):
            start = line.get("start", start)
            if "streams" in line:
                streams.append(line["streams"])
        has_logs = all(map(os.path.exists, logs))
        returned = node["returns_files"]
        content: ChunkContent = {
            "digest": reusable.whole_digest(ids, keys).hex(),
            "items": len(ids),
            "files": [self._link(path) for path in job.outputs(node["files"])],
            "end": end,
            "start": start,
            "streams": streams if has_logs else [],
            "logs": [self._link(log) for log in logs] if has_logs else [],
            "returned": job.under("").returned if returned else "",
            "tree": (
                self._link_tree(job.returned) if returned and os.path.isdir(job.returned) else None
            ),
        }
        self._write({"kind": "chunk", "content": content})

    def _write_atom(self, atom: reusable.Atom, links: Dict[str, int]) -> None:
        places: List[Optional[FilePlace]] = []
        for place in atom.places:
            if place is None:
                places.append(None)
                continue
            path = str(place[0])
            if path not in links:
                links[path] = self._link(path)
            places.append((links[path], *place[1:]))
        content: AtomContent = {
            "ids": [item_id.hex() for item_id in atom.ids],
            "keys": atom.keys,
            "first": atom.first,
            "places": places,
        }
        self._write({"kind": "atom", "content": content})

    def _write(self, line: PackLine) -> None:
        self._index.write(json.dumps(line) + "\n")

    def _link_tree(self, path: str) -> int:
        number = self._files
        self._files += 1
        reusable.link_tree(path, reusable.file(self._folder, number))
        return number

    def _link(self, path: str) -> int:
        """Link to a file, or copy it, and return its number."""
        number = self._files
        self._files += 1
        layout.link_or_copy(path, reusable.file(self._folder, number))
        return number


def _atoms(
    job: AttemptFiles, node: NodeEntry, ids: List[bytes], keys: List[str]
) -> Iterator[reusable.Atom]:
    """Yield what one attempt at a chunk has finished."""
    paths = job.outputs(node["files"])
    try:
        extents = [itemfile.index(path, whole=True) for path in paths]
    except itemfile.DamagedFile:
        return
    mains = [e for stem, e in zip(node["files"], extents) if stem in node["outputs"]]
    spans = _joined([(e.first, e.last) for main in mains for e in main])
    at = [0] * len(paths)
    for first, last in spans:
        places: List[Any] = []
        for which, span in enumerate(extents):
            begin = at[which]
            while at[which] < len(span) and span[at[which]].first <= last:
                at[which] += 1
            inside = span[begin : at[which]]
            if not inside:
                places.append(None)
                continue
            values = sum(extent.values for extent in inside)
            places.append((paths[which], inside[0].start, inside[-1].end, values))
        if last < len(ids):
            yield reusable.Atom(ids[first : last + 1], keys[first : last + 1], first, places)


def _joined(spans: List[Tuple[int, int]]) -> List[Tuple[int, int]]:
    """Return spans with overlapping ones joined."""
    joined: List[Tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
