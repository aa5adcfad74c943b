"""Compute a run or parts of it again, with its own functions."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag.checks import validation
from htdag.compile.writer import begin_loops, write_lists
from htdag.errors import UsageError
from htdag.reuse.swap import copy_of, locked, remove_quietly, temporary_path
from htdag.reuse.takeover import fill
from htdag.run.control import Control
from htdag.run.directory import RunDirectory
from htdag.run.resubmit import put_in_place
from htdag.runtime import layout, planfile
from htdag.runtime.layout import NodeFiles

if TYPE_CHECKING:
    from htdag.runtime.formats.plan import Plan, PlanContent


class Rerun:
    """The part of a run that computes it again."""

    def __init__(self, run: RunDirectory, control: Control) -> None:
        self._run = run
        self._control = control

    def rerun(
        self,
        stage: str | None = None,
        keys: Iterable[str | int] | None = None,
        *,
        errors: bool = False,
    ) -> None:
        """Compute a run again, or a part of it, with the same functions and items."""
        if errors and (stage is not None or keys is not None):
            raise UsageError("errors=True means all failed items; it takes no stage and no keys")
        if stage is not None:
            self._run.stage(stage)
        item_keys = None if keys is None else _checked(keys)
        with locked(self._run.path):
            self._run.require_ended("rerun")
            self._control.check_python()
            backend = self._run.backend(self._run.backend_name)
            before = self._run.ticket()["ticket"]
            new = temporary_path(self._run.path, "rerun")
            copy_of(self._run.path, new, self._run.manifest["dag"])
            try:
                self._fill(new, stage, item_keys, errors)
                put_in_place(new, self._run.path, lambda: self._run.submit(backend, before))
            finally:
                remove_quietly(new)

    def _fill(
        self, new: Path, stage: str | None, keys: frozenset[str] | None, errors: bool
    ) -> None:
        """Give the nodes of the new directory the results that are kept."""
        plan = planfile.read(str(self._run.path))
        content: PlanContent = layout.read_json(str(new / layout.PLAN), "nodes")
        of_stage = {
            node["name"]
            for node in plan["nodes"]
            if stage is None or stage in [*node["stages"], *node["outputs"]]
        }
        dropped: Collection[str] = ()
        if keys is None and not errors:
            dropped = _with_descendants(plan, of_stage)
        seen: set[str] = set()

        kinds = {entry["name"]: entry["kind"] for entry in plan["stages"]}

        def keep(key: str, *, extends: bool) -> bool:
            named = _named_by(key, keys or frozenset(), extends)
            seen.update(named)
            return not named

        for node in content["nodes"]:
            name = node["name"]
            extends = any(kinds.get(each) == "flat_map" for each in node["stages"])
            chosen = None
            if keys is not None and name in of_stage:
                chosen = functools.partial(keep, extends=extends)
            recomputed = name in dropped or node["mode"] == "loop"
            node["reuse"] = not recomputed and fill(
                self._run.path, plan, [name], Path(NodeFiles(new, name).kept), chosen
            )
        missing = sorted((keys or frozenset()) - seen)
        if missing:
            where = f"stage {stage!r}" if stage is not None else "no stage"
            has = "has no item" if stage is not None else "has an item"
            raise UsageError(
                f"run {self._run.tag!r}: {where} {has} with the key {missing[0]!r} "
                f"that was computed; keys are those of results and errors (Item.key, ItemError.key)"
            )
        data = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        layout.write_aside(str(new / layout.PLAN), data.encode())
        write_lists(new, content)
        begin_loops(new)


def _checked(keys: Iterable[Any]) -> frozenset[str]:
    if isinstance(keys, str):
        raise UsageError(f"keys={keys!r}: it takes several keys, such as [{keys!r}]")
    if not isinstance(keys, Iterable):
        raise UsageError(f"keys={validation.shown(keys)}: it takes several keys, such as [7, 12]")
    checked = frozenset(str(key) for key in keys)
    if not checked:
        raise UsageError("keys is empty: there is nothing to compute again")
    return checked


def _named_by(key: str, keys: frozenset[str], extends: bool) -> set[str]:
    """Return the given keys that select an item: its own key, or the key of its origin.

    If the node ``extends`` keys (by a `flat_map`), the keys of its products select it, too.
    """
    parts = key.split(".")
    named = {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & keys
    return named | ({each for each in keys if extends and each.startswith(f"{key}.")})


def _with_descendants(plan: Plan, names: Collection[str]) -> set[str]:
    result = set(names)
    for node in plan["nodes"]:  # parents before children
        if result.intersection(node["parents"]):
            result.add(node["name"])
    return result
