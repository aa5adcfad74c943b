"""Bring finished results of other runs into a run directory that is being written."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from htdag.compile import urls
from htdag.compile.signatures import NO_IDENTITY
from htdag.errors import UsageError
from htdag.reuse import cache
from htdag.reuse.compare import EVERY_STAGE, Match, match
from htdag.reuse.swap import read_identity
from htdag.runtime import layout, planfile
from htdag.runtime.dag import adopt, progress
from htdag.runtime.dag.pack_writer import PackWriter
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.identity import Identity, NodeIdentity
    from htdag.runtime.formats.plan import Manifest, NodeEntry, Plan

Keep = Callable[[str], bool]


class Takeover:
    """Gives the nodes of a new run the results that an old run and the cache have for them.

    It is an argument of `htdag.compile.write_run`.

    Parameters
    ----------
    old : pathlib.Path, optional
        The run directory to be replaced; none of its jobs may be running.
    keep_finished : collection of str
        Stages whose functions count as the same even if they changed; ``"*"`` for all.

    Attributes
    ----------
    matches : dict of str to Match
        The outcomes of the comparison, by the names of nodes.
    """

    def __init__(self, old: Path | None = None, keep_finished: Collection[str] = ()) -> None:
        self.matches: dict[str, Match] = {}
        self._old = old
        self._keep_finished = keep_finished

    @property
    def kept_urls(self) -> urls.KeptStates:
        """The facts of the old run about URLs, and the stages for which they remain valid."""
        old_identity = None if self._old is None else read_identity(self._old)
        stages = None if EVERY_STAGE in self._keep_finished else self._keep_finished
        return urls.KeptStates({} if old_identity is None else old_identity.get("urls", {}), stages)

    def __call__(self, run: Path, identity: Identity) -> set[str]:
        """Fill the folders of the nodes, and return the names of the nodes that got results."""
        unknown = set(self._keep_finished) - {EVERY_STAGE, *identity["stages"]}
        if unknown:
            raise UsageError(
                f"keep_finished: there is no stage {sorted(unknown)[0]!r} in this pipeline; "
                f"there are: {', '.join(identity['stages'])}"
            )
        filled = set()
        if self._old is not None:
            filled |= self._from_old(self._old, run, identity)
            before = self._old / layout.REPLACED
            if (before / layout.IDENTITY).exists():
                filled |= self._from_replaced(before, run, identity)
        for name, node in identity["nodes"].items():
            if node["cache"] and cache.fill(Path(NodeFiles(run, name).kept), node, identity):
                filled.add(name)
                stages = tuple(node["stages"] or node["outputs"])
                self.matches[name] = Match(name, stages, ("the cache",), {})
        return filled

    def _from_old(
        self, old: Path, run: Path, identity: Identity, nodes: Collection[str] | None = None
    ) -> set[str]:
        old_identity = read_identity(old)
        if old_identity is None:
            old_identity = NO_IDENTITY
        self.matches = match(identity, old_identity, self._keep_finished)
        strictly = match(identity, old_identity)
        for name, old_name in self.matches.items():
            # What another function has made is not for the cache, nor later.
            identity["nodes"][name]["mixed"] |= (old_name.same != strictly[name].same) or any(
                old_identity["nodes"][same]["mixed"] for same in old_name.same
            )
        if not any(outcome.same for outcome in self.matches.values()):
            return set()
        plan = planfile.read(str(old))
        filled = set()
        for name, outcome in self.matches.items():
            is_chosen = nodes is None or name in nodes
            if is_chosen and fill(old, plan, outcome.same, Path(NodeFiles(run, name).kept)):
                filled.add(name)
        return filled

    def _from_replaced(self, old: Path, run: Path, identity: Identity) -> set[str]:
        """Use the run that the old run had replaced, too: a change may have been undone."""
        matches = self.matches
        unmatched = [name for name in matches if not matches[name].same]
        filled = self._from_old(old, run, identity, unmatched)
        self.matches = matches | {name: self.matches[name] for name in filled}
        return filled


def fill(
    old: Path, plan: Plan, nodes: Iterable[str], folder: Path, keep: Keep | None = None
) -> bool:
    """Fill the folder of a node with results of an old run's nodes; return whether there are any.

    Results that the old run itself took over, and has not used yet, are passed on.
    """
    writer: PackWriter | None = None
    for name in nodes:
        node = plan["by_name"][name]
        ran = bool(NodeFiles(old, name).attempts())
        waits = not ran and Path(NodeFiles(old, name).kept).exists()
        if ran or waits:
            writer = writer or PackWriter(str(folder))
        if writer is not None and ran:
            writer.add_node(str(old), node, keep)
        elif writer is not None and waits and keep is None:
            writer.add_pack(NodeFiles(old, name).kept)
    if writer is None:
        return False
    writer.close()
    return os.path.getsize(folder / layout.PACK_INDEX) > 0


def is_as_before(old: Path, new: Path) -> bool:
    """Return whether a new run gives the same results as an old one that is done.

    Both are run directories; the new one has taken over all that is reusable.
    """
    before, now = read_identity(old), read_identity(new)
    if before is None or now is None:
        return False
    plan = planfile.read(str(new))
    return (
        before["stages"] == now["stages"]
        and _computations(before) == _computations(now)
        and _targets(old) == _targets(new)
        and _settled(planfile.read(str(old))) == _settled(plan)
        and all(_reads_the_same(new, node) for node in plan["nodes"])
        and all(
            state.complete for node in plan["nodes"] for state in progress.examine(str(new), node)
        )
    )


def _targets(run: Path) -> list[str]:
    manifest: Manifest = layout.read_json(str(run / layout.RUN), "targets")
    return manifest["targets"]


def _settled(plan: Plan) -> list[object]:
    """Return what must be as it was for a run to stay as it is: all but where and how it runs."""
    return [
        (
            node["name"],
            node["stages"],
            node["parents"],
            node["mode"],
            node["input"],
            node["outputs"],
            node["delivers"],
            node["on_error"],
            node["max_errors"],
            node["binds"],
        )
        for node in plan["nodes"]
    ]


def _reads_the_same(run: Path, node: NodeEntry) -> bool:
    adopted = adopt.taken(str(run), node)
    return adopted is not None and adopted.same


def _computations(identity: Identity) -> dict[str, NodeIdentity]:
    """Return the computations of nodes, whichever functions made their results."""
    return {name: {**node, "mixed": False} for name, node in identity["nodes"].items()}
