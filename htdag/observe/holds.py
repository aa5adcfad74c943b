"""What it means that a job is on hold, and what to do about it.

HTCondor gives a code for why a job was held, and words of its own. Here are words for people who
do not know HTCondor, made of the code and of what is known of the job.
"""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from shlex import quote

from htdag.backends.base import JobState

USER_REQUEST = 1
PAUSED = "htdag pause"
"""How the reason of a hold begins by which a pause keeps a job from beginning."""
OUT_OF_RESOURCES = 34
_POLICIES = (3, 21, 26)  # of the job, of the execute point and of the access point
_MEMORY, _DISK = 102, 104
_OPENING = (7, 9, 14)  # files for the output, the folder
_MEMORY_WORDS = re.compile(r"memory|\bRSS\b|ResidentSetSize|ImageSize", re.IGNORECASE)
_DISK_WORDS = re.compile(r"\bdisk\b|DiskUsage|RequestDisk", re.IGNORECASE)
_PEAK = re.compile(r"[Pp]eak usage: (\d+)|using (\d+) ?MB|MemoryUsage\D{0,12}(\d+)")
# As in "allowed job duration of 00:03", of "2:00:00" or of "1+00:00:00".
_CLOCK = re.compile(r"duration of (?:(\d+)\+)?(?:(\d+):)?(\d+):(\d\d)\b")
_ROOM = 1.2  # what is proposed, of what was used


@dataclass(frozen=True)
class Hold:
    """Why a job is on hold, for people.

    Attributes
    ----------
    why : str
        The cause in words, such as ``"memory exceeded: asked 1 GB, used 3.2 GB"``.
    remedy : str
        What to do.
    """

    why: str
    remedy: str


# Code: what it means, and what to do. {node} and {tag} stand for what goes into a command.
_RELEASE = "htdag release {tag} {node}"
_LOOK = "Mend the cause, then: " + _RELEASE
_ADMIN = (
    "Nothing in your script is wrong. Try again: " + _RELEASE + "; if it comes back, ask those who "
    "run the pool"
)
_INPUT = (
    "Look whether the file is there and can be read; if you moved it, put it back. Then: "
    + _RELEASE
)
_MEANINGS: dict[int, tuple[str, str]] = {
    USER_REQUEST: ("held by a person", "To let it go on: " + _RELEASE),
    3: (
        "the job's own rule (periodic_hold or on_exit_hold in submit={{...}}) put it on hold",
        "Mend the cause, or the rule: htdag edit {tag} {node} --attribute "
        "PeriodicHold=False (or OnExitHold=False); then: " + _RELEASE,
    ),
    4: ("its credentials are missing or have run out", "Renew them, then: " + _RELEASE),
    5: (
        "a rule of the job (periodic_... in submit={{...}}) has no value",
        "Mend the rule: htdag edit {tag} {node} --attribute PeriodicHold=False; then: " + _RELEASE,
    ),
    6: (
        "the program of the job could not be started on the execute point",
        "It needs /bin/sh and a python3. If other machines have them, keep away from this one "
        "with requirements; then: " + _RELEASE,
    ),
    7: ("a file for its output could not be opened", _LOOK),
    8: ("a file of its input could not be opened", _INPUT),
    9: ("a stream for its output could not be opened", _LOOK),
    10: ("a stream of its input could not be opened", _INPUT),
    11: ("the transfer of files was answered wrongly, as a network fault does", _ADMIN),
    12: (
        "its output could not be brought back",
        "Often the disk or the quota on this side is full, or a file that the job was to write is "
        "not there. " + _LOOK,
    ),
    13: ("its input could not be sent to it", _INPUT),
    14: ("its folder could not be entered", _LOOK),
    15: (
        "it was submitted on hold, as htdag hold and pause have it",
        "To let it begin: " + _RELEASE + " (or htdag continue, after a pause)",
    ),
    16: ("its input is still being copied to the access point", "Wait; it is released by itself"),
    17: ("the access point changed under the job", _ADMIN),
    18: ("the transfer of files was refused, as a network fault does", _ADMIN),
    19: ("a script of the pool that prepares jobs failed", _ADMIN),
    20: ("the time that it was to start at has passed", _LOOK),
    21: ("the execute point put it on hold by a rule of its own", _ADMIN),
    22: (
        "its event log could not be opened",
        "Is the disk full, or the run's directory not writable? " + _LOOK,
    ),
    23: ("the execute point cannot run jobs as this user", _ADMIN),
    24: ("the access point has no program that fits the job", _ADMIN),
    25: (
        "its timing (cron_... in submit={{...}}) is not valid",
        "A held job keeps it: remove the run and start a new one with another",
    ),
    26: ("a rule of the access point (SYSTEM_PERIODIC_HOLD) put it on hold", _ADMIN),
    27: ("a rule of the access point has no value", _ADMIN),
    32: (
        "its input is larger than max_transfer_input_mb allows",
        "Make chunks smaller, or raise "
        "the limit: htdag edit {tag} {node} --attribute MaxTransferInputMB=-1; then: " + _RELEASE,
    ),
    33: (
        "its output is larger than max_transfer_output_mb allows",
        "Make chunks smaller, or raise "
        "the limit: htdag edit {tag} {node} --attribute MaxTransferOutputMB=-1; then: " + _RELEASE,
    ),
    35: (
        "its container image cannot be used",
        "Look at container_image in submit={{...}}; " + _LOOK,
    ),
    36: ("it could not keep a checkpoint", _LOOK),
    43: ("a script before it failed", _LOOK),
    44: ("a script after it failed", _LOOK),
    45: ("containers (singularity) do not work on the execute point", _ADMIN),
    46: (
        "it ran longer than allowed_job_duration",
        "Allow more: htdag edit {tag} {node} --time {time}; then: " + _RELEASE,
    ),
    47: (
        "it ran longer than allowed_execute_duration",
        "Allow more: htdag edit {tag} {node} --time {time}; then: " + _RELEASE,
    ),
    48: ("a script of the access point that prepares jobs failed", _ADMIN),
}
for _code in range(37, 43):
    _MEANINGS[_code] = ("the cloud service that runs it reported a fault", _LOOK)


def explain(job: JobState, tag: str) -> Hold:
    """Say why a job is on hold and what to do.

    Parameters
    ----------
    job : JobState
        The held job.
    tag : str
        The run's tag, for commands.
    """
    words = {"tag": quote(tag), "node": quote(job.node), "time": _more_time(job.reason)}
    if job.code == USER_REQUEST and job.reason.startswith(PAUSED):
        return Hold("paused before it began", "htdag continue {tag} {node}".format(**words))
    if _sees_no_run(job):
        return Hold(
            "the machine says that it shares files with the submit side (its FILESYSTEM_DOMAIN), "
            "but does not see the run's directory",
            "Have the files sent: htdag edit {tag} {node} --transfer-files; then: ".format(**words)
            + _RELEASE.format(**words)
            + "; for runs to come: transfer_files=True as an option of stages or the pipeline",
        )
    resource = _resource(job)
    if resource == _MEMORY:
        return _memory(job, words)
    if resource == _DISK:
        return Hold(
            "disk exceeded: it wrote more than request_disk asked for",
            "Ask for more: htdag edit {tag} {node} --request-disk SIZE; then: ".format(**words)
            + _RELEASE.format(**words),
        )
    why, remedy = _MEANINGS.get(job.code, ("HTCondor put it on hold", _LOOK))
    return Hold(why.format(**words), remedy.format(**words))


def _sees_no_run(job: JobState) -> bool:
    """Tell whether a job did not find the directory that it was to work in.

    Where its files were transferred it has one of its own.
    """
    no_such_file = job.subcode == errno.ENOENT
    return no_such_file and (job.code in _OPENING or "working directory" in job.reason)


def _resource(job: JobState) -> int:
    """Return which resource a job has used more of than it may, as a subcode; 0 for none.

    Pools have rules of their own for memory, so their words count too.
    """
    if job.code == OUT_OF_RESOURCES or (job.code in _POLICIES and job.subcode in (_MEMORY, _DISK)):
        if job.subcode in (_MEMORY, _DISK):
            return job.subcode
        return _DISK if _DISK_WORDS.search(job.reason) else _MEMORY
    if job.code in _POLICIES and _MEMORY_WORDS.search(job.reason):
        return _MEMORY
    if job.code in _POLICIES and _DISK_WORDS.search(job.reason):
        return _DISK
    return 0


def _memory(job: JobState, words: dict[str, str]) -> Hold:
    asked = job.memory_asked or job.memory_granted
    verb = "asked" if job.memory_asked else "had"
    match = _PEAK.search(job.reason)
    told = int(next(number for number in match.groups() if number)) if match else 0
    used = max(told, job.memory_used or 0)
    parts = []
    if asked:
        parts.append(f"{verb} {size_text(asked)}")
    if used:
        parts.append(f"used {size_text(used)}")
    proposed = memory_proposal(asked or 0, used)
    return Hold(
        "memory exceeded" + (f": {', '.join(parts)}" if parts else ""),
        f"htdag edit {words['tag']} {words['node']} --request-memory {proposed}; then: "
        + _RELEASE.format(**words),
    )


def _more_time(reason: str) -> str:
    """Return twice the time that a job was allowed, by HTCondor's words ``1+00:03:00``."""
    match = _CLOCK.search(reason)
    if match is None:
        return "TIME"
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    twice = 2 * (((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    for size, unit in ((3600, "h"), (60, "min")):
        if twice >= size:
            return f"{math.ceil(twice / size)}{unit}"
    return f"{twice}s"


def memory_proposal(asked: int, used: int) -> str:
    """Return the memory to ask for next, of what was asked and used, in MB.

    A job that is ended at its limit cannot show how much it would have used; then twice is tried.
    """
    wanted = max(used * _ROOM, asked * 2 if used <= asked * 1.1 else 0, 512)
    if wanted <= 1024:
        return f"{math.ceil(wanted / 256) * 256}MB"
    return f"{math.ceil(wanted / 1024)}GB"


def size_text(megabytes: int) -> str:
    """Return a size such as ``3.2 GB`` or ``512 MB``."""
    if megabytes < 1000:
        return f"{megabytes} MB"
    return f"{megabytes / 1024:.1f}".removesuffix(".0") + " GB"


def lines(held: Iterable[JobState], tag: str) -> tuple[str, ...]:
    """Return why jobs are on hold as lines of text, like ones together, each with its remedy."""
    groups: dict[tuple[str, Hold], list[JobState]] = {}
    for job in held:
        groups.setdefault((job.node, explain(job, tag)), []).append(job)
    found = []
    for (node, hold), jobs in groups.items():
        first = jobs[0]
        which = f"job {first.cluster}.{first.proc}"
        if len(jobs) > 1:
            which = f"{len(jobs)} jobs, such as {first.cluster}.{first.proc}"
        code = f"{first.code}.{first.subcode}" if first.subcode else f"{first.code}"
        words = f": {' '.join(first.reason.split())}" if first.reason else ""
        said = f" (HTCondor, code {code}{words})"
        found.append(f"node {node}, {which}: {hold.why}{said}. {hold.remedy}")
    return tuple(found)
