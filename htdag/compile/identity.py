"""What the nodes of a plan compute, by content, for a later run to compare with its own.

Written beside each plan as ``identity.json``. What is not in it does not matter for results: names
of stages, how many jobs there are, and what they ask for.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

from htdag import _fingerprints, _surroundings
from htdag.compile.content import functions, functions_of, initials, program
from htdag.compile.travelling import Travel
from htdag.plan import Node, Plan

WITHOUT_EFFECT = frozenset(
    {
        "request_cpus",
        "request_memory",
        "request_disk",
        "request_gpus",
        "retry_request_memory",
        "allowed_job_duration",
        "concurrency_limits",
        "checkpoint_interval",
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
        # What is in them counts, and where HTCondor puts returned files: see `node_identity`.
        "input_files",
        "output_files",
        "output_destination",
    }
)
"""Options that do not change what a function gives. Any other counts."""

FORMAT = 3
"""Changes with what digests are made of, and with what jobs do: then nothing is the same."""

_UNNEEDED = (
    "python",
    "node",
    "stages",
    "on_error",
    # What the nodes before it give does not change what it computes; items hold their files.
    "reads_files",
    "carries_files",
    "input_files",
    "output_url",
    # Where it runs, and what is put aside meanwhile.
    "run",
    "cpus",
    "checkpoints",
    "checkpoint_interval",
)

_SUBMIT = frozenset(
    {"container_image", "docker_image", "environment", "getenv", "universe", "transfer_input_files"}
)
"""Of the submit commands that a stage was given, those that do."""


def identity_content(
    plan: Plan, classes: dict[str, set[Any]], travels: Mapping[str, Travel]
) -> dict[str, Any]:
    """Return what the nodes of a plan compute.

    Parameters
    ----------
    plan : Plan
        The plan.
    classes : dict of str to set of type
        For each source, the classes of the user's project that its items are of.
    travels : mapping
        What files have to do with each node.
    """
    return {
        "format": FORMAT,
        "python": list(sys.version_info[:2]),
        "nodes": {
            node.name: node_identity(node, classes, travels[node.name]) for node in plan.nodes
        },
        "stages": {name: data["stage"].kind for name, data in plan.stages.nodes(data=True)},
    }


def node_identity(node: Node, classes: dict[str, set[Any]], travel: Travel) -> dict[str, Any]:
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
    deciding = _surroundings.of_node(functions_of(node))["deciding"]
    # Nothing that is as ever: then an earlier run that knew nothing of this has the same.
    options |= {name: _text(value) for name, value in deciding.items() if value}
    options |= {name: value for name, value in node.options.submit or () if name.lower() in _SUBMIT}
    if travel.inputs:
        # By size and time of change: what a job finds under each name.
        options["input_files"] = _text(
            [(each["as"], each.get("url") or each["state"]) for each in travel.inputs]
        )
    if travel.output_url:
        options["output_destination"] = _text(travel.output_url)
    return {
        "stages": list(node.stages),
        "outputs": [output.stage for output in node.outputs],
        "structure": _structure(node, travel),
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


def _structure(node: Node, travel: Travel) -> dict[str, Any]:
    """Return what a node's jobs do, without the names of its stages."""
    content = program(node, travel, "", checkpoints=False)
    reads = node.input
    for unneeded in _UNNEEDED:
        content.pop(unneeded)
    for part in (*content["operations"], *content["outputs"], content.get("reduction", {})):
        part.pop("stage", None)
    content["input"] = [reads.view, reads.number, reads.reverse, len(reads.streams)]
    return content
