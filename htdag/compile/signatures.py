"""What makes an item reusable: stated here, for all that reuses.

An item that another run has finished is taken over, and not computed again, where all of this is
the same as there:

- the item, by its content (`htdag.runtime.data.item_digests`): its pickle, the files in it, what
  servers say of its URLs (`htdag.compile.urls`), the values that are bound to it, and of the
  classes, functions and packages that the pickle names what these are;
- what its node does with it: the structure of its stages, and the code of their functions with all
  that they reach (`htdag.functions.fingerprint`);
- its key, where these functions may ask for it;
- the initial values, the options that matter (the variables of `environ` among them), and the
  input files;
- of the script's process, variables whose names stand in the code of the functions, its locale, and
  how numbers are computed (`htdag.functions.surroundings`);
- the minor version of Python, and `FORMAT`.

`htdag.reuse.compare` compares it, for `resume`, the cache and `explain` alike.

Written beside each plan as ``identity.json``. What is not in it does not matter for results: names
of stages, how many jobs there are, and what they ask for.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from htdag.compile import urls
from htdag.compile.file_flow import Travel
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
        # What is in them counts, and where HTCondor puts returned files: see `node_identity`.
        "input_files",
        "output_files",
        "output_destination",
    }
)
"""Options that do not change what a function gives. Any other counts."""

FORMAT = 4
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


NO_IDENTITY: Identity = {"format": None, "python": [], "nodes": {}, "stages": {}}
"""That of a run by an htdag that did not write any."""


def identity_content(
    plan: Plan, classes: dict[str, set[Any]], travels: Mapping[str, Travel], found: urls.Found
) -> Identity:
    """Return what the nodes of a plan compute.

    Parameters
    ----------
    plan : Plan
        The plan.
    classes : dict of str to set of type
        For each source, the classes of the user's project that its items are of.
    travels : mapping
        What files have to do with each node.
    found : urls.Found
        What the URLs have that it reads.
    """
    memo: fingerprint.Memo = {}
    nodes: dict[str, NodeIdentity] = {}
    kinds = {id(kind): kind for own in classes.values() for kind in own}  # some have no hash
    for node in plan.nodes:
        nodes[node.name], reached = _node_identity(node, travels[node.name], memo, found.states)
        kinds.update({id(kind): kind for kind in reached})
    return {
        "format": FORMAT,
        "python": list(sys.version_info[:2]),
        "nodes": nodes,
        "stages": {name: data["stage"].kind for name, data in plan.stages.nodes(data=True)},
        "kinds": _kinds(plan, kinds.values(), memo),
        "urls": found.states,
        "unknown": found.unknown,
    }


def _kinds(plan: Plan, kinds: Collection[Any], memo: fingerprint.Memo) -> dict[str, dict[str, str]]:
    """Return what items may name: by module, the digests of classes, functions, and of packages.

    What stands under no name is that of a whole module, or package.
    """
    found: dict[str, dict[str, str]] = {}
    for kind in kinds:
        digest = fingerprint.of_kind(kind, memo).digest()
        found.setdefault(str(kind.__module__), {})[kind.__qualname__] = digest
    for name, digest in fingerprint.of_imports([*_functions(plan), *kinds]).items():
        found.setdefault(name, {})[""] = digest
    return {module: dict(sorted(names.items())) for module, names in sorted(found.items())}


def _functions(plan: Plan) -> Iterator[Any]:
    """Yield the functions of a plan, and those of its loops."""
    for node in plan.nodes:
        yield from functions_of(node)
        if node.round is not None:
            yield from _functions(node.round.plan)


def _node_identity(
    node: Node, travel: Travel, memo: fingerprint.Memo, states: Mapping[str, str]
) -> tuple[NodeIdentity, list[type]]:
    """Return what a node computes, and the classes that its functions reach."""
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
    # Nothing that is as ever: then an earlier run that knew nothing of this has the same.
    options |= {name: _text(value) for name, value in deciding.items() if value}
    options |= {name: value for name, value in node.options.submit or () if name.lower() in _SUBMIT}
    if travel.inputs:
        # What a job finds under each name.
        options["input_files"] = _text(
            [
                (
                    each["as"],
                    *((each["url"], states[each["url"]]) if "url" in each else (each["state"],)),
                )
                for each in travel.inputs
            ]
        )
    if travel.output_url:
        options["output_destination"] = _text(travel.output_url)
    content: NodeIdentity = {
        "stages": list(node.stages),
        "outputs": [output.stage for output in node.outputs],
        "structure": _structure(node, travel),
        "functions": [{"stage": stage, **each.content()} for stage, each in made],
        "values": [each.content() for each in values],
        "asks_key": any(each.asks_key for _, each in made),
        "loop": node.round is not None,
        "options": options,
        "cache": bool(node.options.cache),
        "mixed": False,  # True where another function's finished items were said to be right
    }
    return content, reached


def _text(value: Any) -> str:
    return hashlib.sha256(repr(value).encode(errors="surrogatepass")).hexdigest()[:32]


def _structure(node: Node, travel: Travel) -> Structure:
    """Return what a node's jobs do, without the names of its stages."""
    whole = program(node, travel, "", checkpoints=False)
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
