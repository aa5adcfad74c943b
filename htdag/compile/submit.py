"""The text of a node's submit description."""

from __future__ import annotations

from collections.abc import Iterator

from htdag.compile.environments import Placed
from htdag.plan import Node
from htdag.runtime import layout

_MOST_MATERIALIZED = 10_000

_PASSED_ON = (
    "request_cpus",
    "request_memory",
    "request_disk",
    "request_gpus",
    "retry_request_memory",
    "rank",
    "priority",
    "accounting_group",
    "max_materialize",
    "max_idle",
)


def submit_lines(node: Node, pipeline: str, place: Placed) -> Iterator[str]:
    """Yield the lines of a submit description.

    Parameters
    ----------
    node : Node
        The node.
    pipeline : str
        The pipeline's name, for the batch name.
    place : Placed
        The environment of its jobs.
    """
    name = node.name
    chunk, attempt = "$(chunk)", "$(attempt)"
    outputs = [file for output in node.outputs for file in output.files]
    back = [_with_macros(layout.record, name)] + [
        _with_macros(layout.output, name, output) for output in outputs
    ]
    description = _with_macros(layout.chunk, name)
    sent = [*place.sent, layout.program(name), layout.payload(name), description, "$(inputs)"]
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
        yield "should_transfer_files = IF_NEEDED"
    yield "when_to_transfer_output = ON_EXIT"
    yield "preserve_relative_paths = True"
    yield f"transfer_input_files = {', '.join(sent)}"
    yield f"transfer_output_files = {', '.join(back)}"
    yield f"output = {_with_macros(layout.stdout, name)}"
    yield f"error = {_with_macros(layout.stderr, name)}"
    yield ""
    given = node.options.given()
    for key in _PASSED_ON:
        if key in given:
            yield f"{key} = {given[key]}"
    if "max_materialize" not in given:
        # Late materialisation, whatever the number: a schedd asks for a negotiation when it
        # materialises jobs, while after a plain submit the jobs of the second and later nodes
        # often wait for the negotiator's next periodic cycle.
        yield f"max_materialize = {_MOST_MATERIALIZED}"
    if "request_cpus" not in given:
        yield "request_cpus = 1"
    needs = [each for each in (place.prepared.requirements, node.options.requirements) if each]
    if needs:
        both = " && ".join(f"({each})" for each in needs)
        yield f"requirements = {both if len(needs) > 1 else needs[0]}"
    for key, value in node.options.submit or ():
        yield f"{key} = {value}"
    yield f"batch_name = {pipeline}"
    yield "notification = Never"
    yield ""
    lines = "$(list)" if node.lanes > 1 else layout.chunk_list(name)
    yield f"queue chunk, attempt, inputs from {lines}"


def _with_macros(path, name: str, *rest: str) -> str:  # type: ignore[no-untyped-def]
    """Return a path of the layout with submit macros for chunk and attempt."""
    return str(path(name, "CHUNK", 987654321, *rest)).replace(
        "CHUNK.987654321", "$(chunk).$(attempt)"
    )
