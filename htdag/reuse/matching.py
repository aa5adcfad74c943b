"""Which nodes of a plan compute what a node of another run has computed, and why others do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

Identity = dict[str, Any]
"""The content of ``identity.json``; see `htdag.compile.identity`."""

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
    python = ""
    if new["python"] != old["python"]:
        python = f"Python is {_version(new)} now, and was {_version(old)}"
    found = {}
    for name, node in new["nodes"].items():
        same = []
        reasons: dict[str, str] = {}
        for other in _likely_first(name, node, old["nodes"]):
            differing = _differences(node, old["nodes"][other], keep_finished)
            if not differing and not python:
                same.append(other)
            elif not reasons:
                reasons = differing
        stages = tuple(node["stages"] or node["outputs"])
        if not reasons:
            reasons = dict.fromkeys(stages, "it is new")
        if python:
            reasons = dict.fromkeys(stages, python)
        found[name] = Match(name, stages, tuple(same), {} if same else reasons)
    return found


def _version(identity: Identity) -> str:
    return ".".join(map(str, identity["python"]))


def _likely_first(name: str, node: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """Return the nodes of the other run, first that which this one was most likely there."""
    own = {*node["stages"], *node["outputs"]}

    def distance(other: str) -> tuple[bool, int]:
        theirs = {*old[other]["stages"], *old[other]["outputs"]}
        return other != name, len(own ^ theirs)

    return sorted(old, key=distance)


def _differences(
    new: dict[str, Any], old: dict[str, Any], keep_finished: Collection[str]
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
    for mine, its in zip(new["functions"], old["functions"], strict=True):
        kept = mine["stage"] in keep_finished or EVERY_STAGE in keep_finished
        changed = [] if kept else _changed(mine, its)
        if changed and mine["stage"] not in found:
            found[mine["stage"]] = _function_text(changed)
    last = stages[-1]
    for mine, its in zip(new["values"], old["values"], strict=True):
        if _changed(mine, its):
            found.setdefault(last, "its initial value changed")
    changed = _changed(new["classes"], old["classes"])
    if changed:
        found.setdefault(stages[0], f"the class of its items changed: {_named(changed)}")
    options = sorted(
        name
        for name in {*new["options"], *old["options"]}
        if new["options"].get(name) != old["options"].get(name)
    )
    if options:
        found.setdefault(stages[0], f"options changed: {', '.join(options)}")
    if not found:
        return {}
    others = ", ".join(f"{name}" for name in found)
    return {
        name: found.get(name) or f"it shares its jobs with {others}, which changed"
        for name in stages
    }


def _structural(
    stages: list[str], theirs: list[str], new: dict[str, Any], old: dict[str, Any]
) -> str:
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


def _changed(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """Return the components that are not the same in both."""
    mine, its = new["components"], old["components"]
    names = [name for name in {**mine, **its} if mine.get(name) != its.get(name)]
    unsure = [f"{name}, {why}" for name, why in {**old["unsure"], **new["unsure"]}.items()]
    return [*sorted(names, key=_importance), *unsure]


def _importance(name: str) -> tuple[int, str]:
    # That a name stands for something else, or refers to what changed, says less than what changed.
    kinds = ("its function", "helper", "module", "class", "variable", "enclosing", "defaults")
    place = next((n for n, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))
    return place, name


def _function_text(changed: list[str]) -> str:
    if changed == ["its function"]:
        return "its function changed"
    return f"its function changed: {_named(changed)}"


def _named(changed: list[str]) -> str:
    # A reference to a function holds what it does, so with the function the variable changes too.
    files = [name.rpartition(" in ") for name in changed]
    helpers = {
        (name.removeprefix("helper "), file) for name, _, file in files if name.startswith("helper")
    }
    left = [
        full
        for full, (name, _, file) in zip(changed, files, strict=True)
        if (name.removeprefix("variable "), file) not in helpers or not name.startswith("variable")
    ]
    named = [
        "the function itself" if name == "its function" else name for name in left[:_MOST_NAMED]
    ]
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    return ", ".join(named) + more
