"""The conditions for the reuse of items.

An item that another run has finished is reused if all of the following is the same there:

- the item, by its content (`htdag.runtime.data.item_digests`): its pickle, its files, the state of
  its URLs (`htdag.compile.urls`), the values that are bound to it, and the classes, functions and
  packages that the pickle names;
- the computation of its node: the structure of its stages, and the code of their functions with all
  that they reach (`htdag.functions.fingerprint`);
- its key, if these functions may ask for it;
- the initial values, the options that matter (including the variables of `environ`), and the input
  files;
- the state of the script's process: variables whose names are in the code of the functions, the
  locale, and settings for numbers (`htdag.functions.surroundings`);
- the minor version of Python, and `FORMAT`.

`htdag.reuse.compare` makes the comparison for `resume`, the cache and `explain`.

The conditions are written next to each plan as ``identity.json``. All else does not matter for
results: names of stages, the number of jobs, and their requests.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from htdag.compile import urls
from htdag.compile.file_flow import FileFlow
from htdag.compile.node_content import functions, functions_of, initials, program
from htdag.functions import fingerprint, surroundings
from htdag.options import transfer
from htdag.plan import Node, Plan

if TYPE_CHECKING:
    from htdag.runtime.formats.identity import Identity, NodeIdentity, Structure


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
        "transfer_files",
        # Contents of files, and URLs for returned files, count separately: see `_node_identity`.
        "input_files",
        "output_files",
        "output_destination",
    }
)
"""Options that do not change results. All others count."""

FORMAT = 4
"""It is increased when digests or the work of jobs change: then nothing is reused."""

_UNNEEDED = (
    "python",
    "node",
    "stages",
    "on_error",
    # Files of earlier nodes do not change the computation; they are part of items.
    "reads_files",
    "carries_files",
    "input_files",
    "output_url",
    # Where it runs, and its checkpoints.
    "run",
    "cpus",
    "checkpoints",
    "checkpoint_interval",
)

_SUBMIT = frozenset(
    {"container_image", "docker_image", "environment", "getenv", "universe", "transfer_input_files"}
)
"""The submit commands of a stage that change results."""


NO_IDENTITY: Identity = {"format": None, "python": [], "nodes": {}, "stages": {}}
"""The identity of a run whose htdag did not write one."""


def identity_content(
    plan: Plan,
    classes: dict[str, set[Any]],
    flows: Mapping[str, FileFlow],
    url_states: urls.UrlStates,
) -> Identity:
    """Return the computations of a plan's nodes.

    Parameters
    ----------
    plan : Plan
        The plan.
    classes : dict of str to set of type
        For each source, the classes of the user's project in its items.
    flows : mapping
        The flow of files for each node.
    url_states : urls.UrlStates
        The states of the URLs that it reads.
    """
    memo: fingerprint.Memo = {}
    nodes: dict[str, NodeIdentity] = {}
    kinds = {
        id(kind): kind for of_source in classes.values() for kind in of_source
    }  # some have no hash
    for node in plan.nodes:
        nodes[node.name], reached = _node_identity(node, flows[node.name], memo, url_states.states)
        kinds.update({id(kind): kind for kind in reached})
    return {
        "format": FORMAT,
        "python": list(sys.version_info[:2]),
        "nodes": nodes,
        "stages": {name: data["stage"].kind for name, data in plan.stages.nodes(data=True)},
        "kinds": _kinds(plan, kinds.values(), memo),
        "urls": url_states.states,
        "unknown": url_states.unknown,
    }


def _kinds(plan: Plan, kinds: Collection[Any], memo: fingerprint.Memo) -> dict[str, dict[str, str]]:
    """Return, by module, the digests of classes and functions that items may name.

    The digest under the empty name is that of the whole module or package.
    """
    digests: dict[str, dict[str, str]] = {}
    for kind in kinds:
        digest = fingerprint.of_kind(kind, memo).digest()
        digests.setdefault(str(kind.__module__), {})[kind.__qualname__] = digest
    for name, digest in fingerprint.of_imports([*_functions(plan), *kinds]).items():
        digests.setdefault(name, {})[""] = digest
    return {module: dict(sorted(names.items())) for module, names in sorted(digests.items())}


def _functions(plan: Plan) -> Iterator[Any]:
    """Yield the functions of a plan, and those of its loops."""
    for node in plan.nodes:
        yield from functions_of(node)
        if node.round is not None:
            yield from _functions(node.round.plan)


def _node_identity(
    node: Node, flow: FileFlow, memo: fingerprint.Memo, states: Mapping[str, str]
) -> tuple[NodeIdentity, list[type]]:
    """Return the computation of a node, and the classes that its functions reach."""
    made = [
        (stage, fingerprint.of_function(function, memo)) for (_, stage), function in functions(node)
    ]
    values = [fingerprint.of_value(v, "its initial value", memo) for v in initials(node)]
    reached = [kind for each in [*(each for _, each in made), *values] for kind in each.classes]
    options = {
        name: _text(value)
        for name, value in node.options.given().items()
        if name not in WITHOUT_EFFECT and name != "submit"
    }
    environment = node.options.environment
    if environment is not None and environment.made_of:
        held = [transfer.file_state(path) for path in environment.made_of]
        options["environment"] = _text((environment, held))
    deciding = surroundings.of_node(functions_of(node))["deciding"]
    # Only non-default state, so that runs from before this was recorded compare equal.
    options |= {name: _text(value) for name, value in deciding.items() if value}
    options |= {name: value for name, value in node.options.submit or () if name.lower() in _SUBMIT}
    if flow.inputs:
        # The content under each name in the job.
        options["input_files"] = _text(
            [
                (
                    each["as"],
                    *((each["url"], states[each["url"]]) if "url" in each else (each["state"],)),
                )
                for each in flow.inputs
            ]
        )
    if flow.output_url:
        options["output_destination"] = _text(flow.output_url)
    content: NodeIdentity = {
        "stages": list(node.stages),
        "outputs": [output.stage for output in node.outputs],
        "structure": _structure(node, flow),
        "functions": [{"stage": stage, **each.content()} for stage, each in made],
        "values": [each.content() for each in values],
        "asks_key": any(each.asks_key for _, each in made),
        "loop": node.round is not None,
        "options": options,
        "cache": bool(node.options.cache),
        "mixed": False,  # True if the user keeps finished items of another function
    }
    return content, reached


def _text(value: Any) -> str:
    return hashlib.sha256(repr(value).encode(errors="surrogatepass")).hexdigest()[:32]


def _structure(node: Node, flow: FileFlow) -> Structure:
    """Return the work of a node's jobs, without the names of its stages."""
    whole = program(node, flow, "", checkpoints=False)
    reads = node.input
    content: Any = {
        **{name: value for name, value in whole.items() if name not in _UNNEEDED},
        "operations": [_nameless(each) for each in whole["operations"]],
        "outputs": [_nameless(each) for each in whole["outputs"]],
        "input": [reads.view, reads.number, reads.reverse, len(reads.streams)],
        **({"reduction": _nameless(whole["reduction"])} if "reduction" in whole else {}),
    }
    structure: Structure = content
    return structure


def _nameless(part: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in part.items() if name != "stage"}
