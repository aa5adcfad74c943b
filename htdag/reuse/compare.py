"""The comparison of two runs: which nodes compute the same, and why others do not.

`htdag.compile.signatures` describes what has to be the same. `computation` returns it for `match`,
which compares nodes and describes differences, and for `key`, the name of a node in the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from htdag.runtime.formats.identity import FingerprintEntry, Identity, NodeIdentity


_MOST_NAMED = 3
EVERY_STAGE = "*"


@dataclass(frozen=True)
class Match:
    """The outcome of the comparison for one node.

    Attributes
    ----------
    node : str
        The node of the new plan.
    stages : tuple of str
        The stages that it computes.
    same : tuple of str
        The nodes of the other run that compute the same.
    reasons : dict of str to str
        If there are none: for each of its stages, why not.
    """

    node: str
    stages: tuple[str, ...]
    same: tuple[str, ...]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class _Change:
    """A component that changed, or may have (then `why` says so), and the file that it is in."""

    name: str
    place: str
    why: str = ""

    def __str__(self) -> str:
        name = "the function itself" if self.name == "its function" else self.name
        return name + (f" in {self.place}" if self.place else "") + (self.why and f", {self.why}")


def match(new: Identity, old: Identity, keep_finished: Collection[str] = ()) -> dict[str, Match]:
    """Return for each node of a new run which nodes of an old run compute the same.

    Parameters
    ----------
    new, old : dict
        Their identities.
    keep_finished : collection of str
        Stages whose functions count as the same even if they changed; ``"*"`` for all.

    Returns
    -------
    dict of str to Match
        The outcomes, by the names of the new nodes.
    """
    common_reason = ""
    if old["format"] != new["format"]:
        common_reason = "the earlier run was made by another version of htdag"
    elif new["python"] != old["python"]:
        common_reason = f"Python is {_version(new)} now, and was {_version(old)}"
    matches = {}
    for name, node in new["nodes"].items():
        same = []
        reasons: dict[str, str] = {}
        stages = tuple(node["stages"] or node["outputs"])
        if common_reason:
            matches[name] = Match(name, stages, (), dict.fromkeys(stages, common_reason))
            continue
        for candidate in _likely_first(name, node, old["nodes"]):
            old_node = old["nodes"][candidate]
            kept = _kept(node, old_node, keep_finished)
            if _is_certain(node, old_node, kept) and (
                computation(node, kept) == computation(old_node, kept)
            ):
                same.append(candidate)
            elif not reasons:
                reasons = _differences(node, old_node, keep_finished)
        if not reasons:
            reasons = dict.fromkeys(stages, "it is new")
        matches[name] = Match(name, stages, tuple(same), {} if same else reasons)
    return matches


def computation(node: NodeIdentity, kept: Collection[int] = ()) -> list[Any]:
    """Return all that decides what a node computes from its items, except the functions `kept`."""
    functions = enumerate(node["functions"])
    return [
        node["structure"],
        [None if n in kept else each["components"] for n, each in functions],
        [each["components"] for each in node["values"]],
        node["asks_key"],
        node["options"],
    ]


def key(node: NodeIdentity, identity: Identity) -> str | None:
    """Return the name of a node's computation; None if it is not known for certain."""
    if not _is_certain(node, node, ()):
        return None
    content = [computation(node), identity["format"], identity["python"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _is_certain(new: NodeIdentity, old: NodeIdentity, kept: Collection[int]) -> bool:
    """Return whether equal digests mean that two nodes compute the same."""
    if new["loop"] or old["loop"] or len(new["functions"]) != len(old["functions"]):
        return False
    return not any(
        part["unsure"]
        for node in (new, old)
        for part in (
            *(each for n, each in enumerate(node["functions"]) if n not in kept),
            *node["values"],
        )
    )


def _kept(new: NodeIdentity, old: NodeIdentity, keep_finished: Collection[str]) -> set[int]:
    """Return which functions of a node are taken for those of another: its stages' own ones."""
    stages = [
        (each["stage"], old_each["stage"])
        for each, old_each in zip(new["functions"], old["functions"], strict=False)
    ]
    return {
        number
        for number, (stage, old_stage) in enumerate(stages)
        if stage == old_stage and (stage in keep_finished or EVERY_STAGE in keep_finished)
    }


def _version(identity: Identity) -> str:
    return ".".join(map(str, identity["python"]))


def _likely_first(name: str, node: NodeIdentity, old: Mapping[str, NodeIdentity]) -> list[str]:
    """Return the nodes of the old run, the most likely counterpart of this node first."""
    names = {*node["stages"], *node["outputs"]}

    def distance(candidate: str) -> tuple[bool, int]:
        old_names = {*old[candidate]["stages"], *old[candidate]["outputs"]}
        return candidate != name, len(names ^ old_names)

    return sorted(old, key=distance)


def _differences(
    new: NodeIdentity, old: NodeIdentity, keep_finished: Collection[str]
) -> dict[str, str]:
    """Return for each stage of a node why it is not the same; {} if all of it is."""
    stages = list(dict.fromkeys([*new["stages"], *new["outputs"]]))
    old_stages = list(dict.fromkeys([*old["stages"], *old["outputs"]]))
    if not set(stages) & set(old_stages) and new["structure"] != old["structure"]:
        return dict.fromkeys(stages, "it is new")
    if new["loop"] or old["loop"]:
        return dict.fromkeys(stages, "it is made by a loop, whose rounds are always recomputed")
    reasons: dict[str, str] = {}
    if new["structure"] != old["structure"] or len(new["functions"]) != len(old["functions"]):
        reason = _structural_reason(stages, old_stages, new, old)
        return dict.fromkeys(stages, reason)
    kept = _kept(new, old, keep_finished)
    for number, (each, old_each) in enumerate(zip(new["functions"], old["functions"], strict=True)):
        changed = [] if number in kept else list(_changed(each, old_each))
        if changed and each["stage"] not in reasons:
            reasons[each["stage"]] = _function_text(changed)
    last = stages[-1]
    for value, before in zip(new["values"], old["values"], strict=True):
        if any(_changed(value, before)):
            reasons.setdefault(last, "its initial value changed")
    options = sorted(
        name
        for name in {*new["options"], *old["options"]}
        if new["options"].get(name) != old["options"].get(name)
    )
    if options:
        reasons.setdefault(stages[0], f"options changed: {', '.join(options)}")
    if new["asks_key"] != old["asks_key"]:
        reasons.setdefault(stages[0], "whether it asks for the key of its item changed")
    others = ", ".join(f"{name}" for name in reasons)
    return {
        name: reasons.get(name) or f"it shares its jobs with {others}, which changed"
        for name in stages
    }


def _structural_reason(
    stages: list[str], old_stages: list[str], new: NodeIdentity, old: NodeIdentity
) -> str:
    if stages != old_stages:
        return (
            f"its jobs compute {' and '.join(stages)} now, and computed "
            f"{' and '.join(old_stages)}; values between these stages are not stored"
        )
    operations = new["structure"]["operations"], old["structure"]["operations"]
    outputs = new["structure"]["outputs"], old["structure"]["outputs"]
    if [each["bind"] for each in operations[0]] != [each["bind"] for each in operations[1]]:
        return "its bind changed"
    if [each["parts"] for each in outputs[0]] != [each["parts"] for each in outputs[1]]:
        return "its values go to another number of partitions"
    return "the stage changed: its kind, its parameters or what is stored of it"


def _changed(new: FingerprintEntry, old: FingerprintEntry) -> Iterator[_Change]:
    """Yield the components that differ, the likely cause first."""
    now, before = new["components"], old["components"]
    places = {**old["places"], **new["places"]}
    names = [name for name in {**now, **before} if now.get(name) != before.get(name)]
    for name in sorted(names, key=_importance):
        yield _Change(name, places.get(name, ""))
    for name, why in {**old["unsure"], **new["unsure"]}.items():
        yield _Change(name, places.get(name, ""), why)


def _importance(name: str) -> tuple[int, str]:
    # What changed says more than that a name refers to it, or stands for something else.
    kinds = ("its function", "helper", "module", "class", "package", "variable", "enclosing")
    place = next((n for n, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))
    return place, name


def _function_text(changed: list[_Change]) -> str:
    if [(each.name, each.why) for each in changed] == [("its function", "")]:
        return "its function changed"
    return f"its function changed: {_named(changed)}"


def _named(changed: list[_Change]) -> str:
    # The digest of a variable includes the function that it refers to, so both change together.
    helpers = {
        (each.name.removeprefix("helper "), each.place)
        for each in changed
        if each.name.startswith("helper ")
    }
    remaining = [
        each
        for each in changed
        if (each.name.removeprefix("variable "), each.place) not in helpers
        or not each.name.startswith("variable ")
    ]
    more = f" and {len(remaining) - _MOST_NAMED} more" if len(remaining) > _MOST_NAMED else ""
    return ", ".join(map(str, remaining[:_MOST_NAMED])) + more
