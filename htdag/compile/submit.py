"""The text of a node's submit description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from htdag._resources import written
from htdag.compile.environments import Placed
from htdag.compile.requests import per_item
from htdag.compile.travelling import Travel
from htdag.plan import Node
from htdag.runtime import atonce, layout, pause

_PASSED_ON = (
    "request_cpus",
    "request_memory",
    "request_disk",
    "request_gpus",
    "allowed_job_duration",
    "retry_request_memory",
    "rank",
    "priority",
    "accounting_group",
    "concurrency_limits",
    "max_materialize",
    "max_idle",
)

SENDS_FOLDERS = (23, 10, 1)
"""The first version of HTCondor that ends a job whose files go to a URL by their folder."""
_VERSION = ".".join(map(str, SENDS_FOLDERS))
# It is the execute point that waits for ever.
_SENDS_FOLDERS = f'versionGE(split(TARGET.CondorVersion)[1], "{_VERSION}")'


def submit_lines(
    node: Node, place: Placed, travel: Travel, code: Sequence[str], *, checkpoints: bool
) -> Iterator[str]:
    """Yield the lines of a submit description.

    Parameters
    ----------
    node : Node
        The node.
    place : Placed
        The environment of its jobs.
    travel : Travel
        What files have to do with the node.
    code : sequence of str
        The files that its functions need.
    checkpoints : bool
        Whether the node's functions call `htdag.checkpoint`.
    """
    name = node.name
    chunk, attempt = "$(chunk)", "$(attempt)"
    outputs = [file for output in node.outputs for file in output.files]
    back = [_with_macros(layout.record, name)] + [
        _with_macros(layout.output, name, output) for output in outputs
    ]
    if checkpoints:
        back.append(_with_macros(layout.checkpoints, name))
    description = _with_macros(layout.chunk, name)
    sent = [*place.sent, layout.program(name), *code, layout.payload(name), description]
    sent += [each["at"] for each in travel.inputs if "at" in each] + travel.input_urls
    sent.append("$(inputs)")
    if travel.returns:
        back.append(_with_macros(layout.returned, name))
    yield f"# Node {name}: {', '.join(node.stages) or 'partial ' + outputs[0]}"
    if node.lanes > 1:
        yield "# One job for each line of a lane's list, which VARS in the DAG names."
    else:
        yield f"# One job for each line of {layout.chunk_list(name)}."
    yield ""
    for key, value in place.prepared.submit:
        yield f"{key} = {value}"
    yield f"executable = {place.executable}"
    yield f"arguments = work {name} {chunk} {attempt} {' '.join(outputs)}"
    yield ""
    if "should_transfer_files" not in dict(place.prepared.submit):
        # Where a file system is shared HTCondor would fetch no URLs.
        yield f"should_transfer_files = {'YES' if travel.urls else 'IF_NEEDED'}"
    yield "when_to_transfer_output = ON_EXIT"
    yield "preserve_relative_paths = True"
    yield f"transfer_input_files = {', '.join(sent)}"
    yield f"transfer_output_files = {', '.join(back)}"
    if node.reduction is None and not travel.output_url:
        # A job that has done enough since then ends with this status between two items; its files
        # are sent to the submit side, and it is started again. So little is lost by an eviction.
        yield ""
        yield "# Now and then a job ends with this status: its files are saved, and it goes on."
        yield f"checkpoint_exit_code = {pause.EXIT}"
        yield f"transfer_checkpoint_files = {', '.join(back)}"
    if travel.output_url:
        # HTCondor sends what is in a directory one by one.
        where = f"{_with_macros(layout.returned, name)}={travel.output_url}"
        yield f'transfer_output_remaps = "{where}"'
    yield ""
    yield f"output = {_with_macros(layout.stdout, name)}"
    yield f"error = {_with_macros(layout.stderr, name)}"
    yield ""
    given = node.options.given()
    yield from _requests(node)
    if "max_materialize" not in given:
        # A schedd asks for a negotiation when it materialises jobs, while after a plain submit the
        # jobs of the second and later nodes often wait for the negotiator's next periodic cycle.
        yield from atonce.LATE.splitlines()
    if "request_cpus" not in given:
        yield "request_cpus = 1"
    sends = _SENDS_FOLDERS if travel.output_url else ""
    asked = (place.prepared.requirements, node.options.requirements, sends)
    needs = [each for each in asked if each]
    if needs:
        both = " && ".join(f"({each})" for each in needs)
        yield f"requirements = {both if len(needs) > 1 else needs[0]}"
    for key, value in node.options.submit or ():
        yield f"{key} = {value}"
    yield ""
    variables = ", ".join(["chunk", "attempt", *map(_variable, per_item(node)), "inputs"])
    lines = "$(list)" if node.lanes > 1 else layout.chunk_list(name)
    yield f"queue {variables} from {lines}"


def _requests(node: Node) -> Iterator[str]:
    given = node.options.given()
    vary = per_item(node)
    for key in _PASSED_ON:
        if key in vary:
            yield f"{key} = {written(key, f'$({_variable(key)})')}"
        elif key in given:
            yield f"{key} = {given[key]}"


def _variable(option: str) -> str:
    """Return the queue variable of an option that differs from chunk to chunk.

    Of a variable that begins with ``request_`` HTCondor would make a request for a resource.
    """
    return option.replace("request_", "").replace("allowed_job_", "") + "_of_chunk"


def _with_macros(path, name: str, *rest: str) -> str:  # type: ignore[no-untyped-def]
    """Return a path of the layout with submit macros for chunk and attempt."""
    return str(path(name, "CHUNK", 987654321, *rest)).replace(
        "CHUNK.987654321", "$(chunk).$(attempt)"
    )
