"""The texts of the DAG file, of its configuration, and of its scripts."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator

from htdag.common.package import VERSION
from htdag.common.text import counted
from htdag.plan import Node, Plan, Stream
from htdag.plan.wording import jobs_of
from htdag.runtime import layout
from htdag.runtime.dag import judgement, looping
from htdag.runtime.lanes import Unit
from htdag.runtime.layout import NodeFiles

STOP = 3
"""The exit status of a POST script that ends the whole DAG."""

KEEPS_JOBS = "DAGMAN_REMOVE_JOB_LIST_ON_FAILURE"
"""DAGMan's setting for whether one failed job ends the others of its node; from 25.14.0 on."""


def dag_lines(
    plan: Plan,
    within: bool = False,
    final: str | None = None,
    judged_by_status: Collection[str] = (),
) -> Iterator[str]:
    """Yield the lines of the DAG file.

    Parameters
    ----------
    plan : Plan
        The plan.
    within : bool
        Whether it is the DAG of a round, which runs inside the DAG of its loop.
    final : str, optional
        The FINAL node, if there is one.
    judged_by_status : collection of str
        The nodes that need no POST script.
    """
    file = f"{plan.name}.dag"
    yield f"# The pipeline {plan.name}, written by htdag {VERSION}."
    nodes, jobs = counted(len(plan.nodes), "node"), counted(plan.jobs, "job")
    units = sum(len(node.units) for node in plan.nodes)
    if units > len(plan.nodes):
        nodes += f" cut into {units} by lanes"
    run = "Run by the DAG of its loop." if within else f"Run it here with: condor_submit_dag {file}"
    yield f"# {nodes}, {jobs}. {run}"
    yield "#"
    yield f"# When a node is submitted, {layout.LIST} prints its jobs: those with something to do."
    if len(judged_by_status) < len(plan.nodes):
        yield "# A POST script judges its node by the records of the jobs. It ends with 0: all is"
        yield "# done; 1: items are left, and only these are submitted by RETRY;"
        yield f"# {STOP}: the DAG is to end; {judgement.NO_RETRY}: no job found a Python that fits."
    if judged_by_status:
        yield "# A node without one is judged by its jobs, which end with 0 where all is done."
    yield ""
    yield f"CONFIG {layout.CONFIG}"
    for node in plan.nodes:
        yield ""
        yield f"# {_summary(node)}"
        for unit in node.units:
            yield from _unit_lines(node, unit, node.name not in judged_by_status)
    if final is not None:
        yield ""
        yield "# on_success, on_failure: on the access point, whatever happened"
        yield f"FINAL {final} {NodeFiles('', final).submit}"
    edges = list(_edges(plan))
    if edges:
        yield ""
        yield from edges
    if plan.throttles.maxjobs:
        yield ""
        for category, most in plan.throttles.maxjobs:
            yield f"MAXJOBS {category} {most}"


def _unit_lines(node: Node, unit: Unit, judged_by_script: bool) -> Iterator[str]:
    yield from _what_runs(node, unit)
    if node.priority:
        yield f"PRIORITY {unit.name} {node.priority}"
    if node.options.category:
        yield f"CATEGORY {unit.name} {node.options.category}"
    if judged_by_script:
        how_it_went = " $RETURN" if node.round is not None else ""
        arguments = f"{unit.name} $RETRY $MAX_RETRIES{how_it_went}"
        yield f"SCRIPT POST {unit.name} {layout.POST} {arguments}"
    if stops(node):
        yield f"ABORT-DAG-ON {unit.name} {STOP} RETURN 1"


def _what_runs(node: Node, unit: Unit) -> Iterator[str]:
    if node.round is not None:
        # Each round is a try of the node, and each except the last one fails. One more try than
        # rounds: if DAGMan was killed, the script may fail a try without a new round.
        folder = NodeFiles("", node.name).current
        yield "# A round is a try of the node; the script makes the next, and fails the try for it."
        yield f"SUBDAG EXTERNAL {node.name} {layout.ROUND_DAG} DIR {folder}"
        yield f"RETRY {node.name} {node.round.max_rounds} UNLESS-EXIT {looping.FAILED}"
        return
    yield f"JOB {unit.name} {NodeFiles('', node.name).submit}"
    if unit.lane:
        # PREPEND, since the queue statement of the submit description uses it.
        yield f'VARS {unit.name} PREPEND unit="{unit.name}"'
    if node.options.retries:
        yield f"RETRY {unit.name} {node.options.retries} UNLESS-EXIT {judgement.NO_RETRY}"


def stops(node: Node) -> bool:
    """Return whether failed items of a node, or of a round, end the whole DAG."""
    if node.round is not None:
        return any(map(stops, node.round.plan.nodes))
    return node.options.on_error == "stop"


def _edges(plan: Plan) -> Iterator[str]:
    """Yield the edges; between nodes in the same lanes, those from lane to lane."""
    for node in plan.nodes:
        whole = [plan[name] for name in node.parents if name != node.lane_parent]
        if whole:
            parents = " ".join(unit.name for parent in whole for unit in parent.units)
            yield f"PARENT {parents} CHILD {' '.join(unit.name for unit in node.units)}"
        if node.lane_parent is not None:
            for unit in node.units:
                yield f"PARENT {Unit(node.lane_parent, unit.lane).name} CHILD {unit.name}"


def _summary(node: Node) -> str:
    if node.round is not None:
        made = node.round
        each = f"{counted(len(made.plan.nodes), 'node')}, {counted(made.plan.jobs, 'job')}"
        return f"{node.name}: at most {counted(made.max_rounds, 'round')} of {each}"
    what = ", ".join(node.stages) if node.stages else "parts of " + node.outputs[0].stage
    does = "combining" if node.reduction is not None else "reading"
    reads = ", ".join(map(_named, node.input.streams))
    bound = " and ".join(bind.stage for bind in node.binds)
    return f"{what}: {jobs_of(node)}, {does} {reads}" + (f", with {bound} in each" if bound else "")


def _named(stream: Stream) -> str:
    """Return the name of a stream, with its node if that has another name."""
    return (
        stream.stage if stream.node in (None, stream.stage) else f"{stream.stage} of {stream.node}"
    )


def config_lines(plan: Plan, keeps_jobs: bool) -> Iterator[str]:
    """Yield the lines of the DAG's own configuration file.

    ``keeps_jobs``: whether the other jobs of a node go on if one fails.
    """
    yield "# Settings for this DAG alone."
    yield ""
    yield "# Claims that DAGMan keeps between nodes are handed on only at the schedd's periodic"
    yield "# tick (300 s by default); meanwhile the next node finds no free slot."
    settings = plan.throttles.settings()
    yield f"DAGMAN_HOLD_CLAIM_TIME = {settings.pop('DAGMAN_HOLD_CLAIM_TIME', 0)}"
    if keeps_jobs:
        yield ""
        yield "# Where a job fails or is removed, the others of its node go on (from 25.14.0 on)."
        yield f"{KEEPS_JOBS} = False"
    if any(map(_has_throttle, plan.nodes)):
        yield ""
        yield "# DAGMan before 23.10.1 heeds max_materialize and max_idle only where condor_submit"
        yield "# submits for it."
        yield "if version < 23.10.1"
        yield "DAGMAN_USE_DIRECT_SUBMIT = False"
        yield "endif"
    if settings:
        yield ""
        yield "# Limits that the pipeline was given."
        for name, value in settings.items():
            yield f"{name} = {value}"


def _has_throttle(node: Node) -> bool:
    """Return whether an option limits how many jobs of a node are in the queue."""
    return (node.options.max_materialize, node.options.max_idle) != (None, None)


def list_script(python: str) -> str:
    """Return the script that prints the jobs for the queue statement of a submit description."""
    return f"""#!/bin/sh
# Prints the jobs of a node, or of one lane of it, when the node is submitted: the list that was
# prepared, or, where something has happened since, what is left to do by the records of the jobs.
# With "memory" it prints the memory to ask for, where earlier jobs of the node needed more.
umask 077
node=${{1%.[1-9]*}}
if [ "$2" = memory ]; then
    for record in {layout.NODES}/"$node"/out/*.record; do
        [ -e "$record" ] || exit 0
        python={shlex.quote(python)}
        [ -x "$python" ] || python=python3
        exec "$python" -S -E {layout.RUNTIME} memory "$1" </dev/null
    done
fi
list={layout.NODES}/$node/chunks${{1#"$node"}}.txt
if [ -e "$list.outdated" ] || [ ! -e "$list" ]; then
    python={shlex.quote(python)}
    [ -x "$python" ] || python=python3
    "$python" -S -E {layout.RUNTIME} list "$1" </dev/null >&2 || {{
        # A line that HTCondor refuses; it tells what it refuses.
        echo "{layout.UNLISTED}{layout.NODES}/$node/log/post.log\\", 0,"
        exit 1
    }}
fi
: >"$list.outdated"
exec cat "$list"
"""


def post_script(python: str) -> str:
    """Return the POST script, which runs the runtime with the submitting Python if possible."""
    return f"""#!/bin/sh
# Judges an attempt of a node by the records of its jobs, and lists what is left to do.
# Arguments: the node, $RETRY and $MAX_RETRIES. It reads no user values.
python={shlex.quote(python)}
[ -x "$python" ] || python=python3
exec "$python" -S -E {layout.RUNTIME} post "$@"
"""
