"""Which nodes of a plan compute what a node of another run has computed, and why others do not.

What has to be the same is stated in `htdag.compile.signatures`. `computation` returns it, for
`match`, which compares it and finds words for what differs, and for `key`, by which the cache finds
it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from htdag.compile.signatures import Identity, NodeIdentity
from htdag.functions.fingerprint import FingerprintEntry

_MOST_NAMED = 3
EVERY_STAGE = "*"


@dataclass(frozen=True)
class Match:
    """What became of one node.

    Attributes
    ----------
    node : str
        The node of the new plan.
    stages : tuple of str
        What it computes.
    same : tuple of str
        The nodes of the other run that compute the same.
    reasons : dict of str to str
        Where there is none: for each of its stages, why not.
    """

    node: str
    stages: tuple[str, ...]
    same: tuple[str, ...]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class _Change:
    """A component that is not as it was, with the file that it is in, and why that is not known."""

    name: str
    place: str
    why: str = ""

    def __str__(self) -> str:
        name = "the function itself" if self.name == "its function" else self.name
        return name + (f" in {self.place}" if self.place else "") + (self.why and f", {self.why}")


def match(new: Identity, old: Identity, keep_finished: Collection[str] = ()) -> dict[str, Match]:
    """Compare what the nodes of two runs compute.

    Parameters
    ----------
    new, old : dict
        Their identities.
    keep_finished : collection of str
        Stages whose functions are taken for the same although they changed; ``"*"`` for all.

    Returns
    -------
    dict of str to Match
        By the names of the new nodes.
    """
    everywhere = ""
    if old["format"] != new["format"]:
        everywhere = "the earlier run was made by another version of htdag"
    elif new["python"] != old["python"]:
        everywhere = f"Python is {_version(new)} now, and was {_version(old)}"
    found = {}
    for name, node in new["nodes"].items():
        same = []
        reasons: dict[str, str] = {}
        stages = tuple(node["stages"] or node["outputs"])
        if everywhere:
            found[name] = Match(name, stages, (), dict.fromkeys(stages, everywhere))
            continue
        for other in _likely_first(name, node, old["nodes"]):
            theirs = old["nodes"][other]
            kept = _kept(node, theirs, keep_finished)
            if _is_certain(node, theirs, kept) and (
                computation(node, kept) == computation(theirs, kept)
            ):
                same.append(other)
            elif not reasons:
                reasons = _differences(node, theirs, keep_finished)
        if not reasons:
            reasons = dict.fromkeys(stages, "it is new")
        found[name] = Match(name, stages, tuple(same), {} if same else reasons)
    return found


def computation(node: NodeIdentity, kept: Collection[int] = ()) -> list[Any]:
    """Return all that decides what a node computes of its items, but for the functions `kept`."""
    functions = enumerate(node["functions"])
    return [
        node["structure"],
        [None if n in kept else each["components"] for n, each in functions],
        [each["components"] for each in node["values"]],
        node["asks_key"],
        node["options"],
    ]


def key(node: NodeIdentity, identity: Identity) -> str | None:
    """Return the name of what a node computes; None where it cannot be told for certain."""
    if not _is_certain(node, node, ()):
        return None
    content = [computation(node), identity["format"], identity["python"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _is_certain(new: NodeIdentity, old: NodeIdentity, kept: Collection[int]) -> bool:
    """Tell whether equal digests mean that two nodes compute the same."""
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
        (mine["stage"], its["stage"])
        for mine, its in zip(new["functions"], old["functions"], strict=False)
    ]
    return {
        number
        for number, (mine, its) in enumerate(stages)
        if mine == its and (mine in keep_finished or EVERY_STAGE in keep_finished)
    }


def _version(identity: Identity) -> str:
    return ".".join(map(str, identity["python"]))


def _likely_first(name: str, node: NodeIdentity, old: Mapping[str, NodeIdentity]) -> list[str]:
    """Return the nodes of the other run, first that which this one was most likely there."""
    own = {*node["stages"], *node["outputs"]}

    def distance(other: str) -> tuple[bool, int]:
        theirs = {*old[other]["stages"], *old[other]["outputs"]}
        return other != name, len(own ^ theirs)

    return sorted(old, key=distance)


def _differences(
    new: NodeIdentity, old: NodeIdentity, keep_finished: Collection[str]
) -> dict[str, str]:
    """Return for each stage of a node why it is not the same; {} where all of it is."""
    stages = list(dict.fromkeys([*new["stages"], *new["outputs"]]))
    theirs = list(dict.fromkeys([*old["stages"], *old["outputs"]]))
    if not set(stages) & set(theirs) and new["structure"] != old["structure"]:
        return dict.fromkeys(stages, "it is new")
    if new["loop"] or old["loop"]:
        return dict.fromkeys(stages, "it is made by a loop, whose rounds are computed anew")
    found: dict[str, str] = {}
    if new["structure"] != old["structure"] or len(new["functions"]) != len(old["functions"]):
        reason = _structural(stages, theirs, new, old)
        return dict.fromkeys(stages, reason)
    kept = _kept(new, old, keep_finished)
    for number, (mine, its) in enumerate(zip(new["functions"], old["functions"], strict=True)):
        changed = [] if number in kept else list(_changed(mine, its))
        if changed and mine["stage"] not in found:
            found[mine["stage"]] = _function_text(changed)
    last = stages[-1]
    for value, before in zip(new["values"], old["values"], strict=True):
        if any(_changed(value, before)):
            found.setdefault(last, "its initial value changed")
    options = sorted(
        name
        for name in {*new["options"], *old["options"]}
        if new["options"].get(name) != old["options"].get(name)
    )
    if options:
        found.setdefault(stages[0], f"options changed: {', '.join(options)}")
    if new["asks_key"] != old["asks_key"]:
        found.setdefault(stages[0], "whether it asks for the key of its item changed")
    others = ", ".join(f"{name}" for name in found)
    return {
        name: found.get(name) or f"it shares its jobs with {others}, which changed"
        for name in stages
    }


def _structural(stages: list[str], theirs: list[str], new: NodeIdentity, old: NodeIdentity) -> str:
    if stages != theirs:
        return (
            f"its jobs compute {' and '.join(stages)} now, and computed {' and '.join(theirs)}; "
            f"what is between is not stored"
        )
    operations = new["structure"]["operations"], old["structure"]["operations"]
    outputs = new["structure"]["outputs"], old["structure"]["outputs"]
    if [each["bind"] for each in operations[0]] != [each["bind"] for each in operations[1]]:
        return "its bind changed"
    if [each["parts"] for each in outputs[0]] != [each["parts"] for each in outputs[1]]:
        return "its values leave in another number of partitions"
    return "what is asked of it changed: its kind, its parameters or what is stored of it"


def _changed(new: FingerprintEntry, old: FingerprintEntry) -> Iterator[_Change]:
    """Yield the components that are not the same in both, the likely cause first."""
    mine, its = new["components"], old["components"]
    places = {**old["places"], **new["places"]}
    names = [name for name in {**mine, **its} if mine.get(name) != its.get(name)]
    for name in sorted(names, key=_importance):
        yield _Change(name, places.get(name, ""))
    for name, why in {**old["unsure"], **new["unsure"]}.items():
        yield _Change(name, places.get(name, ""), why)


def _importance(name: str) -> tuple[int, str]:
    # That a name stands for something else, or refers to what changed, says less than what changed.
    kinds = ("its function", "helper", "module", "class", "package", "variable", "enclosing")
    place = next((n for n, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))
    return place, name


def _function_text(changed: list[_Change]) -> str:
    if [(each.name, each.why) for each in changed] == [("its function", "")]:
        return "its function changed"
    return f"its function changed: {_named(changed)}"


def _named(changed: list[_Change]) -> str:
    # A reference to a function holds what it does, so with the function the variable changes too.
    helpers = {
        (each.name.removeprefix("helper "), each.place)
        for each in changed
        if each.name.startswith("helper ")
    }
    left = [
        each
        for each in changed
        if (each.name.removeprefix("variable "), each.place) not in helpers
        or not each.name.startswith("variable ")
    ]
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    return ", ".join(map(str, left[:_MOST_NAMED])) + more
