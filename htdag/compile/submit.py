"""The text of a node's submit description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from htdag.compile.environments import Placed
from htdag.compile.file_flow import FileFlow
from htdag.compile.requests import per_item
from htdag.compile.scheduler import Scheduler
from htdag.errors import BackendError
from htdag.options.resources import written
from htdag.plan import Node
from htdag.runtime import layout
from htdag.runtime.job import eviction
from htdag.runtime.layout import AttemptFiles, NodeFiles

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
"""The first version of HTCondor in which a job ends if its files go to a URL by their folder."""
_OWN_DOMAIN = "MY.FileSystemDomain"
_VERSION = ".".join(map(str, SENDS_FOLDERS))
# In older versions, the execute point waits forever.
_SENDS_FOLDERS = f'versionGE(split(TARGET.CondorVersion)[1], "{_VERSION}")'


def check_destination(node: Node, flow: FileFlow, scheduler: Scheduler) -> None:
    """Raise an error if HTCondor cannot send files of jobs to their URL.

    Raises
    ------
    BackendError
        If a stage has a URL as ``output_destination``, and its jobs would never end.
    """
    version = scheduler.version
    if version is not None and flow.output_url.lower().startswith("file:"):
        raise BackendError(
            f"{node.name!r} has output_destination={flow.output_url!r}, but HTCondor's plugin "
            f"for file: makes no folders, and tries forever to write into one that does not exist; "
            f"give the path of a folder, without file:, to which htdag delivers the files"
        )
    if flow.output_url and version is not None and version < SENDS_FOLDERS:
        raise BackendError(
            f"{node.name!r} has output_destination={flow.output_url!r}, but HTCondor "
            f"{'.'.join(map(str, version))} never ends a job whose files go to a URL ({_VERSION} "
            "does); give a folder of this machine, or let the function send its files itself"
        )


def submit_lines(
    node: Node,
    place: Placed,
    flow: FileFlow,
    code: Sequence[str],
    *,
    checkpoints: bool,
    judged_by_status: bool,
    scheduler: Scheduler,
) -> Iterator[str]:
    """Yield the lines of a submit description.

    Parameters
    ----------
    node : Node
        The node.
    place : Placed
        The environment of its jobs.
    flow : FileFlow
        The flow of files of the node.
    code : sequence of str
        The files that its functions need.
    checkpoints : bool
        Whether the node's functions call `htdag.checkpoint`.
    judged_by_status : bool
        Whether the exit status of a job decides whether all of its items are done.
    scheduler : Scheduler
        The HTCondor that will run it.
    """
    name = node.name
    chunk, attempt = "$(chunk)", "$(attempt)"
    outputs = [file for output in node.outputs for file in output.files]
    files = NodeFiles("", name)
    job = AttemptFiles(files, 0, 0, f"{chunk}.{attempt}")
    back = [job.record, *job.outputs(outputs)]
    if checkpoints:
        back.append(job.checkpoints)
    sent = [*place.sent, files.program, *code, files.payload, job.description]
    sent += [each["at"] for each in flow.inputs if "at" in each] + flow.input_urls
    sent.append("$(inputs)")
    if flow.returns:
        back.append(job.returned)
    yield f"# Node {name}: {', '.join(node.stages) or 'partial ' + outputs[0]}"
    yield f"# One job for each line that {layout.LIST} prints."
    if node.lanes > 1:
        yield "# VARS in the DAG name the lane."
    yield ""
    for key, value in place.prepared.submit:
        yield f"{key} = {value}"
    # The execute point's shell reads the script, so this works even if files are not executable.
    yield "executable = /bin/sh"
    yield "transfer_executable = False"
    work = "work-status" if judged_by_status else "work"
    yield f"arguments = {place.script} {work} {name} {chunk} {attempt} {' '.join(outputs)}"
    yield ""
    always = dict(place.prepared.submit).get("should_transfer_files") == "YES"
    if not always:
        # On a shared file system, HTCondor would not fetch URLs.
        always = flow.urls or bool(node.options.transfer_files)
        yield f"should_transfer_files = {'YES' if always else 'IF_NEEDED'}"
    yield "when_to_transfer_output = ON_EXIT"
    yield "preserve_relative_paths = True"
    yield f"transfer_input_files = {', '.join(sent)}"
    yield f"transfer_output_files = {', '.join(back)}"
    if node.reduction is None and not flow.output_url:
        # From time to time, a job ends with this status between two items. HTCondor sends its files
        # to the submit side and starts it again, so that an eviction loses little.
        yield ""
        yield "# Now and then a job ends with this status: its files are saved, and it goes on."
        yield f"checkpoint_exit_code = {eviction.PAUSED_EXIT}"
        yield f"transfer_checkpoint_files = {', '.join(back)}"
    if flow.output_url:
        # HTCondor sends the files of a directory one by one.
        where = f"{job.returned}={flow.output_url}"
        yield f'transfer_output_remaps = "{where}"'
    yield ""
    yield f"output = {job.stdout}"
    yield f"error = {job.stderr}"
    yield ""
    yield from _requests(node, scheduler)
    environment = place.prepared.requirements
    if always:
        environment = _with_domain(environment, scheduler)
    sends = _SENDS_FOLDERS if flow.output_url else ""
    yield from _requirements(environment, node.options.requirements, sends)
    for key, value in node.options.submit or ():
        yield f"{key} = {value}"
    yield ""
    if judged_by_status and _learns_memory(node):
        # A POST script would otherwise have stored it.
        yield f"include : ./{layout.LIST} {name} memory |"
    yield f"include : {files.held}"
    variables = ", ".join(["chunk", "attempt", *map(_variable, per_item(node)), "inputs"])
    unit = "$(unit)" if node.lanes > 1 else name
    yield f"queue {variables} from ./{layout.LIST} {unit} |"


def _with_domain(requirements: str, scheduler: Scheduler) -> str:
    """Return requirements of an environment for jobs whose files are always transferred.

    The ads of such jobs lack the file system domain. If that is unknown, jobs may start anywhere,
    and report themselves what they lack.
    """
    if _OWN_DOMAIN not in requirements:
        return requirements
    if not scheduler.file_system_domain:
        return ""
    return requirements.replace(_OWN_DOMAIN, f'"{scheduler.file_system_domain}"')


def _requirements(*given: str | None) -> Iterator[str]:
    needs = [each for each in given if each]
    if needs:
        both = " && ".join(f"({each})" for each in needs)
        yield f"requirements = {both if len(needs) > 1 else needs[0]}"


def _requests(node: Node, scheduler: Scheduler) -> Iterator[str]:
    options = node.options.given()
    vary = per_item(node)
    for key in _PASSED_ON:
        if key in vary:
            yield f"{key} = {written(key, f'$({_variable(key)})')}"
        elif key in options:
            yield f"{key} = {options[key]}"
    is_late = "max_materialize" not in options
    if is_late and (not scheduler.negotiates_often or "max_idle" in options):
        # A schedd requests a negotiation cycle when it materializes jobs, while after a plain
        # submission the jobs of the second and later nodes often wait for the next periodic cycle.
        # If cycles are frequent, it is late materialization that delays jobs.
        yield "# With late materialization, the schedd notifies the negotiator at once."
        yield "max_materialize = 10000"
    if "request_cpus" not in options:
        yield "request_cpus = 1"


def _learns_memory(node: Node) -> bool:
    """Return whether later attempts may request more memory than the first."""
    memory_options = {"request_memory", "retry_request_memory"} & node.options.given().keys()
    return bool(memory_options) and "request_memory" not in per_item(node)


def _variable(option: str) -> str:
    """Return the queue variable of an option whose value differs between chunks.

    Its name must not begin with ``request_``, which HTCondor would take for a resource request.
    """
    return option.replace("request_", "").replace("allowed_job_", "") + "_of_chunk"
