"""The writer of source items into a run directory, with links to the files in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from pathlib import Path

from htdag.config.directories import make_folder
from htdag.errors import UsageError
from htdag.options import transfer
from htdag.plan import Node, StoredSource
from htdag.runtime.data import itemfile
from htdag.runtime.layout import NodeFiles, RunFiles
from htdag.stages.sources import LateSource, SourceItems


def write_source(run: Path, node: Node) -> None:
    """Write the items of a source, cut into the chunks of the node that reads it."""
    source = node.input.source
    assert source is not None
    _write(
        run,
        source,
        node.input.stage,
        node.boundaries,
        lambda chunk: NodeFiles("", node.name).source_items(chunk),
    )


def write_stored_source(run: Path, stored: StoredSource) -> None:
    """Write the items of a source that jobs read by ranges."""
    make_folder(Path(RunFiles(run).source(stored.stage)))
    _write(
        run,
        stored.source,
        stored.stage,
        stored.boundaries,
        lambda file: RunFiles().stored_items(stored.stage, file),
    )


def _write(
    run: Path,
    source: SourceItems,
    stage: str,
    boundaries: Sequence[int],
    path_of: Callable[[int], str],
) -> None:
    sizes = [end - start for start, end in pairwise(boundaries)]
    assert not isinstance(source, LateSource), "what is late is given to rounds, not written"
    items = source.pickles()
    number = 0
    for chunk, size in enumerate(sizes):
        writer = itemfile.ItemWriter(str(run / path_of(chunk)))
        try:
            for position, pickled in enumerate(islice(items, size)):
                writer.value(str(number), pickled.payload, pickled.buffers, pickled.files)
                writer.end(position, position)
                number += 1
            writer.close()
        finally:
            writer.discard()
    if number != boundaries[-1]:
        raise UsageError(
            f"the source {stage!r} has {number} items, not the {boundaries[-1]} that were "
            f"planned; was it changed meanwhile?"
        )
    for at, path in source.travelling.paths.items():
        transfer.link(run, at, path)
