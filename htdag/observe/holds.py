"""Explanations of why a job is on hold, and remedies, for people who do not know HTCondor.

They are made from HTCondor's hold code and reason, and from what is known about the job.
"""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from shlex import quote

from htdag.backends.base import JobState
from htdag.common.text import size

USER_REQUEST = 1
PAUSED = "htdag pause"
"""The start of the reason of holds with which `pause` keeps jobs from starting."""
OUT_OF_RESOURCES = 34
_POLICIES = (3, 21, 26)  # of the job, of the execute point and of the access point
_MEMORY, _DISK = 102, 104
_OPENING = (7, 9, 14)  # output files, and the directory
_MEMORY_WORDS = re.compile(r"memory|\bRSS\b|ResidentSetSize|ImageSize", re.IGNORECASE)
_DISK_WORDS = re.compile(r"\bdisk\b|DiskUsage|RequestDisk", re.IGNORECASE)
_PEAK = re.compile(r"[Pp]eak usage: (\d+)|using (\d+) ?MB|MemoryUsage\D{0,12}(\d+)")
# As in "allowed job duration of 00:03", of "2:00:00" or of "1+00:00:00".
_CLOCK = re.compile(r"duration of (?:(\d+)\+)?(?:(\d+):)?(\d+):(\d\d)\b")
_ROOM = 1.2  # the proposed memory, as a multiple of the used one


@dataclass(frozen=True)
class Hold:
    """An explanation of why a job is on hold.

    Attributes
    ----------
    why : str
        The cause, such as ``"memory exceeded: asked 1 GB, used 3.2 GB"``.
    remedy : str
        What to do.
    """

    why: str
    remedy: str


# The cause and the remedy for each code. {node}, {tag} and {time} are arguments of commands.
_RELEASE = "htdag release {tag} {node}"
_FIX = "Fix the cause, then: " + _RELEASE
_ADMIN = (
    "Your script is not the cause. Try again: " + _RELEASE + "; if it happens again, ask the "
    "pool's administrators"
)
_INPUT = (
    "Check that the file exists and is readable; if you moved it, put it back. Then: " + _RELEASE
)
_MEANINGS: dict[int, tuple[str, str]] = {
    USER_REQUEST: ("held by a person", "To release it: " + _RELEASE),
    3: (
        "the job's own rule (periodic_hold or on_exit_hold in submit={{...}}) put it on hold",
        "Fix the cause, or the rule: htdag edit {tag} {node} --attribute "
        "PeriodicHold=False (or OnExitHold=False); then: " + _RELEASE,
    ),
    4: ("its credentials are missing or have expired", "Renew them, then: " + _RELEASE),
    5: (
        "a rule of the job (periodic_... in submit={{...}}) has no value",
        "Fix the rule: htdag edit {tag} {node} --attribute PeriodicHold=False; then: " + _RELEASE,
    ),
    6: (
        "the program of the job could not be started on the execute point",
        "It needs /bin/sh and a python3. If other machines have them, avoid this one with "
        "requirements; then: " + _RELEASE,
    ),
    7: ("an output file could not be opened", _FIX),
    8: ("an input file could not be opened", _INPUT),
    9: ("an output stream could not be opened", _FIX),
    10: ("an input stream could not be opened", _INPUT),
    11: ("a file transfer got an invalid response, as with a network fault", _ADMIN),
    12: (
        "its output could not be brought back",
        "Often the disk or the quota on this side is full, or the job did not write a file that it "
        "should. " + _FIX,
    ),
    13: ("its input could not be sent to it", _INPUT),
    14: ("its directory could not be entered", _FIX),
    15: (
        "it was submitted on hold, because of htdag hold or pause",
        "To release it: " + _RELEASE + " (or htdag continue, after a pause)",
    ),
    16: ("its input is still being copied to the access point", "Wait; it is released by itself"),
    17: ("the access point changed under the job", _ADMIN),
    18: ("a file transfer was refused, as with a network fault", _ADMIN),
    19: ("a script of the pool that prepares jobs failed", _ADMIN),
    20: ("its start time has passed", _FIX),
    21: ("the execute point put it on hold by a rule of its own", _ADMIN),
    22: (
        "its event log could not be opened",
        "Is the disk full, or the run's directory not writable? " + _FIX,
    ),
    23: ("the execute point cannot run jobs as this user", _ADMIN),
    24: ("the access point has no program that fits the job", _ADMIN),
    25: (
        "its timing (cron_... in submit={{...}}) is not valid",
        "A held job keeps its timing: remove the run, and start a new one with another timing",
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
        "Check container_image in submit={{...}}. " + _FIX,
    ),
    36: ("it could not save a checkpoint", _FIX),
    43: ("a script before it failed", _FIX),
    44: ("a script after it failed", _FIX),
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
    _MEANINGS[_code] = ("the cloud service that runs it reported a fault", _FIX)


def explain(job: JobState, tag: str) -> Hold:
    """Return why a job is on hold, and what to do.

    Parameters
    ----------
    job : JobState
        The held job.
    tag : str
        The run's tag, for commands.
    """
    words = {"tag": quote(tag), "node": quote(job.node), "time": _more_time(job.reason)}
    if job.code == USER_REQUEST and job.reason.startswith(PAUSED):
        return Hold("paused before it started", "htdag continue {tag} {node}".format(**words))
    if _sees_no_run(job):
        return Hold(
            "the machine claims to share files with the submit side (its FILESYSTEM_DOMAIN), but "
            "does not see the run's directory",
            "To send the files: htdag edit {tag} {node} --transfer-files; then: ".format(**words)
            + _RELEASE.format(**words)
            + "; for later runs, set transfer_files=True as an option of stages or the pipeline",
        )
    resource = _resource(job)
    if resource == _MEMORY:
        return _memory(job, words)
    if resource == _DISK:
        return Hold(
            "disk exceeded: it wrote more than request_disk allows",
            "Request more: htdag edit {tag} {node} --request-disk SIZE; then: ".format(**words)
            + _RELEASE.format(**words),
        )
    why, remedy = _MEANINGS.get(job.code, ("HTCondor put it on hold", _FIX))
    return Hold(why.format(**words), remedy.format(**words))


def _sees_no_run(job: JobState) -> bool:
    """Return whether a job that shares files did not find the run directory."""
    no_such_file = job.subcode == errno.ENOENT
    return no_such_file and (job.code in _OPENING or "working directory" in job.reason)


def _resource(job: JobState) -> int:
    """Return the resource that a job used too much of, as a subcode; 0 if there is none.

    Pools have rules of their own for memory and disk, so the words of the reason count, too.
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
    requested = job.memory_asked or job.memory_granted
    verb = "asked" if job.memory_asked else "had"
    match = _PEAK.search(job.reason)
    reported = int(next(number for number in match.groups() if number)) if match else 0
    used = max(reported, job.memory_used or 0)
    parts = []
    if requested:
        parts.append(f"{verb} {size(requested)}")
    if used:
        parts.append(f"used {size(used)}")
    proposed = memory_proposal(requested or 0, used)
    return Hold(
        "memory exceeded" + (f": {', '.join(parts)}" if parts else ""),
        f"htdag edit {words['tag']} {words['node']} --request-memory {proposed}; then: "
        + _RELEASE.format(**words),
    )


def _more_time(reason: str) -> str:
    """Return twice the time that a job was allowed, which HTCondor writes as ``1+00:03:00``."""
    match = _CLOCK.search(reason)
    if match is None:
        return "TIME"
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    twice = 2 * (((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    for length, unit in ((3600, "h"), (60, "min")):
        if twice >= length:
            return f"{math.ceil(twice / length)}{unit}"
    return f"{twice}s"


def memory_proposal(asked: int, used: int) -> str:
    """Return the memory to request next, given the requested and the used memory in MB.

    A job that was ended at its limit may need any amount more, so twice the limit is proposed.
    """
    wanted = max(used * _ROOM, asked * 2 if used <= asked * 1.1 else 0, 512)
    if wanted <= 1024:
        return f"{math.ceil(wanted / 256) * 256}MB"
    return f"{math.ceil(wanted / 1024)}GB"


def lines(held: Iterable[JobState], tag: str) -> tuple[str, ...]:
    """Return why jobs are on hold: a line for each node and cause, with the remedy."""
    groups: dict[tuple[str, Hold], list[JobState]] = {}
    for job in held:
        groups.setdefault((job.node, explain(job, tag)), []).append(job)
    result = []
    for (node, hold), jobs in groups.items():
        first = jobs[0]
        which = f"job {first.cluster}.{first.proc}"
        if len(jobs) > 1:
            which = f"{len(jobs)} jobs, such as {first.cluster}.{first.proc}"
        code = f"{first.code}.{first.subcode}" if first.subcode else f"{first.code}"
        words = f": {' '.join(first.reason.split())}" if first.reason else ""
        original = f" (HTCondor, code {code}{words})"
        result.append(f"node {node}, {which}: {hold.why}{original}. {hold.remedy}")
    return tuple(result)
