"""The submit commands that ``submit={...}`` refuses, with the reasons.

The commands are from HTCondor's manual (condor_submit); all others are accepted. Many have a second
name, that of the job attribute that they set.
"""

from __future__ import annotations

import re

_LANGUAGE = ("if", "elif", "else", "endif", "include", "use", "queue", "warning", "jobset")
_VARIABLES = re.compile(r"chunk|attempt|inputs|unit|\w+_of_chunk")

# The commands, with the reasons why they are refused.
_OURS = (
    "executable cmd arguments args arguments1 arguments2 shell transfer_executable "
    "transferexecutable transfer_input_files transferinput transfer_output_files transferoutput "
    "when_to_transfer_output whentotransferoutput preserve_relative_paths preserverelativepaths "
    "checkpoint_exit_code checkpointexitcode transfer_checkpoint_files transfercheckpoint "
    "transfer_output_remaps transferoutputremaps transfer_input_remaps transferinputremaps "
    "output_directory outputdestination output out stdout error err stderr input in stdin "
    "stream_input streamin stream_output streamout stream_error streamerr "
    "erase_output_and_error_on_restart dontappend transfer_input transfer_output transfer_error "
    "log userlog log_xml userloguseXML dagman_log dagmannodeslog universe jobuniverse initialdir "
    "initial_dir iwd job_iwd remote_initialdir remote_iwd batch_name jobbatchname notification "
    "jobnotification submit_event_notes log_notes lognotes submit_event_notes_attrs dagmanjobid "
    "dagnodename dag_node_name dagparentnodenames jobmaterializelimit"
).lower()
_REFUSED: dict[str, str] = {
    **dict.fromkeys(_OURS.split(), "is set by htdag itself"),
    **dict.fromkeys(
        ("should_transfer_files", "shouldtransferfiles"),
        "is set by htdag itself; give transfer_files=True as an option of the stage if jobs should "
        "get copies of files even if the file system seems to be shared",
    ),
    **dict.fromkeys(
        ("environment", "env", "getenv"),
        "is not for jobs of htdag, which sets their variables itself, on this machine, too; give "
        "the stage or the pipeline environ={'NAME': 'value'}",
    ),
    **dict.fromkeys(
        ("hold", "jobmaterializepaused"),
        "would not apply to jobs that are materialized late; call run.hold() after submit",
    ),
    **dict.fromkeys(
        ["noop_job", "noop_job_exit_code", "noop_job_exit_signal", "skip_if_dataflow"],
        "would make HTCondor skip the job, and nothing would be computed",
    ),
    "leave_in_queue": "would keep done jobs in the queue; htdag waits until they have left it",
    "leavejobinqueue": "would keep done jobs in the queue; htdag waits until they have left it",
}
_OTHER_UNIVERSE = re.compile(
    r"(arc|azure|batch|cloud|ec2|gce|gs|grid|java|jar|vm|xen|cloud_label|parallel)_\w+|jar_files|"
    r"machine_count|node_count|wantnametag|rendezvousdir"
)
_OF_FILES = ("gs_access_key_id_file", "gs_secret_access_key_file")


def why_refused(name: str) -> str:
    """Return why a command cannot be given, to follow its name in a message; "" if it can.

    Examples
    --------
    >>> why_refused("Iwd")
    'is set by htdag itself'
    >>> why_refused("periodic_release")
    ''
    """
    lower = name.lower()
    attribute = re.sub(r"^(\+|my\.)", "", lower)
    if lower in _LANGUAGE:
        return "is a keyword of submit descriptions, not a command"
    if _VARIABLES.fullmatch(lower):
        return "is a variable of htdag's submit descriptions; choose another name"
    if attribute in _REFUSED:
        return _REFUSED[attribute]
    if _OTHER_UNIVERSE.fullmatch(lower) and lower not in _OF_FILES:
        return "is for jobs of another universe than htdag's"
    return ""
