"""The items of sources, written into a run directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

from htdag._sources import FileSource, IterableSource, Source
from htdag.errors import UsageError
from htdag.plan import Node, StoredSource
from htdag.runtime import itemfile, layout
from htdag.runtime.frames import FILE, VALUE, Pickled


def write_source(run: Path, node: Node) -> None:
    """Write the items of a source, cut into the chunks of the node that reads it."""
    source = node.input.source
    assert source is not None
    _write(
        run,
        source,
        node.input.stage,
        node.boundaries,
        lambda chunk: layout.source_items(node.name, layout.chunk_name(chunk)),
        lambda file: layout.linked_file(node.name, file),
    )


def write_stored_source(run: Path, stored: StoredSource) -> None:
    """Write the items of a source that is read by ranges."""
    (run / layout.source(stored.stage)).mkdir(parents=True)
    if stored.source.is_files:
        (run / layout.source(stored.stage) / "files").mkdir()
    _write(
        run,
        stored.source,
        stored.stage,
        stored.boundaries,
        lambda file: layout.stored_items(stored.stage, file),
        lambda file: layout.stored_file(stored.stage, file),
    )


def _write(
    run: Path,
    source: Source,
    stage: str,
    boundaries: Sequence[int],
    path_of: Callable[[int], str],
    link_of: Callable[[int], str],
) -> None:
    sizes = [end - start for start, end in pairwise(boundaries)]
    items: Iterator[tuple[int, Pickled]]
    if isinstance(source, FileSource):
        paths = source.paths[: boundaries[-1]]
        for number, path in enumerate(paths):
            _link(Path(path), run / link_of(number))
        items = ((FILE, Pickled(payload)) for payload in _file_payloads(link_of, paths))
    else:
        assert isinstance(source, IterableSource), "what is late is given to rounds, not written"
        items = ((VALUE, pickled) for pickled in source.pickles())
    number = 0
    for chunk, size in enumerate(sizes):
        writer = itemfile.ItemWriter(str(run / path_of(chunk)))
        try:
            for position, (kind, pickled) in enumerate(islice(items, size)):
                writer.value(str(number), pickled.payload, kind, pickled.buffers)
                writer.end(position, position)
                number += 1
            writer.close()
        finally:
            writer.discard()
    if number != boundaries[-1]:
        raise UsageError(
            f"the source {stage!r} gave {number} items, not the {boundaries[-1]} that were "
            f"planned; was it changed meanwhile?"
        )


def _file_payloads(link_of: Callable[[int], str], paths: Iterable[str]) -> Iterator[bytes]:
    for number, path in enumerate(paths):
        content = {
            "link": link_of(number),
            "name": os.path.basename(path),
            "path": path,
            "state": _state(path),
        }
        yield json.dumps(content).encode()


def _state(path: str) -> str:
    """Return what tells a file, or a folder, from what it is when it was changed."""
    if not os.path.isdir(path):
        found = os.stat(path)
        return f"{found.st_size} bytes of {found.st_mtime_ns}"
    entries = []
    for folder, folders, names in os.walk(path, followlinks=False):
        folders.sort()
        for name in sorted(names):
            inner = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(inner)
                place = os.path.relpath(inner, path)
                entries.append(f"{place}: {found.st_size} bytes of {found.st_mtime_ns}")
    return hashlib.sha256("\n".join(entries).encode(errors="surrogateescape")).hexdigest()


def _link(path: Path, link: Path) -> None:
    """Link to a file; make a directory as a real one with links to its files.

    HTCondor follows links to files, but holds a job for one to a directory.
    """
    if not path.is_dir():
        link.symlink_to(path)
        return
    for folder, folders, names in os.walk(path, followlinks=True):
        here = link / os.path.relpath(folder, path)
        here.mkdir()
        real = os.path.realpath(folder)
        folders[:] = [
            name
            for name in folders
            if not real.startswith(os.path.realpath(os.path.join(folder, name)) + os.sep)
            and real != os.path.realpath(os.path.join(folder, name))
        ]
        for name in names:
            (here / name).symlink_to(os.path.join(folder, name))
