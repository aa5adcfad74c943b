"""What the nodes of a plan compute, by content, for a later run to compare with its own.

Written beside each plan as ``identity.json``. What is not in it does not matter for results: names
of stages, how many jobs there are, and what they ask for.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

from htdag import _fingerprints
from htdag.compile.content import functions, initials, program
from htdag.plan import Node, Plan

WITHOUT_EFFECT = frozenset(
    {
        "request_cpus",
        "request_memory",
        "request_disk",
        "request_gpus",
        "retry_request_memory",
        "requirements",
        "rank",
        "priority",
        "accounting_group",
        "max_materialize",
        "max_idle",
        "category",
        "node_priority",
        "chunk_size",
        "retries",
        "on_error",
        "max_errors",
        "fuse",
        "cache",
    }
)
"""Options that do not change what a function gives. Any other counts."""

FORMAT = 1
"""Changes with what digests are made of, and with what jobs do: then nothing is the same."""

_SUBMIT = frozenset(
    {"container_image", "docker_image", "environment", "getenv", "universe", "transfer_input_files"}
)
"""Of the submit commands that a stage was given, those that do."""


def identity_content(plan: Plan, classes: dict[str, set[Any]]) -> dict[str, Any]:
    """Return what the nodes of a plan compute.

    Parameters
    ----------
    plan : Plan
        The plan.
    classes : dict of str to set of type
        For each source, the classes of the user's project that its items are of.
    """
    return {
        "format": FORMAT,
        "python": list(sys.version_info[:2]),
        "nodes": {node.name: node_identity(node, classes) for node in plan.nodes},
        "stages": {name: data["stage"].kind for name, data in plan.stages.nodes(data=True)},
    }


def node_identity(node: Node, classes: dict[str, set[Any]]) -> dict[str, Any]:
    """Return what a node computes: its structure, functions, values and options."""
    reads = node.input
    sources = [stream.stage for stream in reads.streams if stream.node is None]
    sources += [bind.stage for bind in node.binds if bind.node is None]
    kinds = [kind for source in sources for kind in classes.get(source, ())]
    kinds.sort(key=lambda kind: (str(kind.__module__), getattr(kind, "__qualname__", "")))
    found = [
        {"stage": stage, **_fingerprints.of_function(function).content()}
        for (_, stage), function in functions(node)
    ]
    values = [
        _fingerprints.of_value(value, "its initial value").content() for value in initials(node)
    ]
    options = {
        name: _text(value)
        for name, value in node.options.given().items()
        if name not in WITHOUT_EFFECT and name != "submit"
    }
    options |= {name: value for name, value in node.options.submit or () if name.lower() in _SUBMIT}
    return {
        "stages": list(node.stages),
        "outputs": [output.stage for output in node.outputs],
        "structure": _structure(node),
        "functions": found,
        "values": values,
        "classes": _fingerprints.of_classes(kinds).content(),
        "loop": node.round is not None,
        "options": options,
        "cache": bool(node.options.cache),
        "mixed": False,  # True where another function's finished items were said to be right
    }


def _text(value: Any) -> str:
    return hashlib.sha256(repr(value).encode(errors="surrogatepass")).hexdigest()[:32]


def _structure(node: Node) -> dict[str, Any]:
    """Return what a node's jobs do, without the names of its stages."""
    content = program(node)
    reads = node.input
    for unneeded in ("python", "node", "stages", "on_error"):
        content.pop(unneeded)
    for part in (*content["operations"], *content["outputs"], content.get("reduction", {})):
        part.pop("stage", None)
    content["input"] = [reads.view, reads.number, reads.reverse, len(reads.streams)]
    return content
