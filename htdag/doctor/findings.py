"""The checks: what the facts about a pool mean for a run. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from htdag.doctor.facts import Facts, Probe

LOCAL_SETTINGS = (
    "DAGMAN_USER_LOG_SCAN_INTERVAL",
    "DAGMAN_HOLD_CLAIM_TIME",
    "DAGMAN_LOG_ON_NFS_IS_ERROR",
    "GUIDANCE_KEEP_CALM_AND",
    "JOB_DEFAULT_REQUESTMEMORY",
    "SCHEDD_INTERVAL",
    "SCHEDD_MIN_INTERVAL",
)
"""The settings of the submit machine that the checks need."""
NEGOTIATOR_SETTINGS = ("NEGOTIATOR_INTERVAL",)
"""The settings of the negotiator's machine that the checks need."""

_SCAN, _SCHEDD_MIN, _SCHEDD, _NEGOTIATOR, _HOLD = 5, 5, 300, 60, 20  # HTCondor's defaults
_NETWORK = ("nfs", "cifs", "smb", "afs", "sshfs")
_OLDEST = (23, 9)  # the oldest HTCondor that the tests run on, 23.9.6
_CLOCK = 30.0  # seconds; the times that daemons report are exact to a few
_ADMIN = "ask the pool's administrator for"

_RUN = "a run of 3 nodes with 9 short jobs"

# The costs of slow settings: medians of three runs on 2 cores by benchmarks/pool_settings.py, with
# one setting at HTCondor's default and all others fast.
_NEGOTIATOR_COST = f"{_RUN} took 60 s at the default of 60, and 17 s at 1"
_SCAN_COST = f"{_RUN} took 43 s at the default of 5, and 17 s at 1"
_GUIDANCE_COST = f"{_RUN} took 28 s with this wait, and 17 s without it"
_SCHEDD_MIN_COST = f"{_RUN} took 21 s at the default of 5, and 17 s at 1"
# From docs/htcondor-facts.md.
_CLAIMS_COST = (
    "3 chained nodes of 40 jobs on 8 slots took 142 s with SCHEDD_INTERVAL at 60, and 44 s at 5; "
    "without kept claims there is no such wait"
)


class Severity(enum.Enum):
    """What a finding means for a run, the worst first."""

    BREAKS = "breaks"
    """A run, or some of its jobs, would fail or never start."""
    SLOWS = "slows"
    """Runs take longer than they need to."""
    NOTE = "note"
    """Worth knowing."""


@dataclass(frozen=True)
class Finding:
    """Something to know about a pool.

    Attributes
    ----------
    name : str
        A short, stable name, for programs.
    severity : Severity
        What it means for a run.
    what : str
        What was found.
    cost : str
        What it costs, as far as that was measured; "" if that does not apply.
    remedy : str
        What to do about it; "" if there is nothing to do.
    """

    name: str
    severity: Severity
    what: str
    cost: str = ""
    remedy: str = ""


def findings(facts: Facts) -> list[Finding]:
    """Return what the facts mean for a run, the worst first.

    Examples
    --------
    >>> from htdag.doctor.facts import Facts
    >>> facts = Facts("local", "this machine", "3.11.2", "/home/ada/runs", reason="no schedd")
    >>> [finding.name for finding in findings(facts)]
    ['no-htcondor']
    """
    results = [finding for check in _CHECKS for finding in check(facts)]
    order = list(Severity)
    return sorted(results, key=lambda finding: order.index(finding.severity))


def _place(facts: Facts) -> Iterator[Finding]:
    if facts.place != "local":
        return
    if facts.root and facts.schedd_answers:
        yield Finding(
            "root",
            Severity.BREAKS,
            "you are root, and HTCondor refuses the jobs of root",
            'on="auto" runs on this machine instead, and on="condor" is an error',
            "start scripts as an ordinary user",
        )
    elif facts.schedd_answers and not facts.dagman_found:
        yield Finding(
            "no-dagman",
            Severity.BREAKS,
            "HTCondor answers, but its program condor_dagman is not on PATH",
            'on="auto" runs on this machine instead, and on="condor" is an error',
            "put the folder of condor_dagman on PATH",
        )
    else:
        yield Finding(
            "no-htcondor",
            Severity.NOTE,
            f"runs go to this machine: {facts.reason}",
            "at most one job per core of this machine at once",
            "install HTCondor and start a pool of your own: htdag pool start"
            if not facts.root
            else "as an ordinary user (HTCondor refuses root): htdag pool start",
        )


def _directory(facts: Facts) -> Iterator[Finding]:
    if facts.place == "local":
        return
    if re.match(r"/tmp(/|$)", facts.runs_directory):
        yield Finding(
            "runs-in-tmp",
            Severity.BREAKS,
            f"runs are kept in {facts.runs_directory}, below /tmp, where DAGMan refuses to work",
            "each submission is refused",
            "set HTDAG_HOME to a folder that lasts",
        )
    if facts.runs_filesystem.startswith(_NETWORK):
        refused = _is_true(facts.settings.get("DAGMAN_LOG_ON_NFS_IS_ERROR", ""))
        yield Finding(
            "runs-on-network",
            Severity.BREAKS if refused else Severity.NOTE,
            f"runs are kept in {facts.runs_directory}, on a network file system "
            f"({facts.runs_filesystem})"
            + (", which DAGMAN_LOG_ON_NFS_IS_ERROR forbids here" if refused else ""),
            "each DAG ends as soon as it starts"
            if refused
            else "DAGMan follows its event logs there, with a delay if the file system is slow to "
            "show new data",
            "set HTDAG_HOME to a folder on a disk of this machine",
        )


def _slots(facts: Facts) -> Iterator[Finding]:
    if facts.place == "local":
        return
    memory = _number(facts.settings.get("JOB_DEFAULT_REQUESTMEMORY")) or 128
    fitting = [point for point in facts.points if point.cpus >= 1 and point.memory_mb >= memory]
    if not facts.points:
        what = "the pool has no execute point"
        remedy = "see htdag pool status" if facts.place == "own" else "wait for one, or "
        remedy += "" if facts.place == "own" else f"{_ADMIN} one; condor_status lists them"
    elif not fitting:
        what = f"no slot has the 1 CPU and {memory:g} MB that a job requests by default"
        remedy = "give stages a smaller request_memory, or add an execute point"
    elif not any(point.starts_jobs for point in fitting):
        what = "no execute point starts jobs (START is False on all that would fit)"
        remedy = f"{_ADMIN} START = True; condor_status -af Name Start shows it"
    else:
        return
    yield Finding("no-slots", Severity.BREAKS, what, "jobs wait forever", remedy)


def _python(facts: Facts) -> Iterator[Finding]:
    if facts.place == "local":
        return
    version = _minor(facts.python)
    if facts.probes is None:
        if facts.points:
            yield Finding(
                "python-unknown",
                Severity.NOTE,
                f"whether the execute points have a Python {version} was not checked",
                "items fail on execute points without it",
                "htdag doctor --probe sends a small job to each",
            )
        return
    answers = [probe for probe in facts.probes if not probe.problem]
    without = [probe for probe in answers if not probe.python]
    other = [probe for probe in answers if probe.python and _minor(probe.python) != version]
    bad = without + other
    if bad:
        examples = ", ".join(
            f"{probe.point} has {probe.python or 'no python3'}" for probe in bad[:_NAMED]
        )
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        yield Finding(
            "python-version",
            Severity.BREAKS,
            f"{len(bad)} of {len(answers)} execute points have no Python {version}: "
            f"{examples}{more}",
            "items fail there: functions do not travel between minor versions",
            f"run scripts with the Python of the execute points, install python{version} there, or "
            f"avoid them with requirements",
        )
    silent = [probe for probe in facts.probes if probe.problem]
    if silent:
        yield Finding(
            "probe-silent",
            Severity.NOTE,
            f"{len(silent)} of {len(facts.probes)} execute points did not report: "
            + "; ".join(_silence(probe) for probe in silent[:_NAMED]),
            "",
            "they may be busy: try again later, or with a longer --timeout",
        )
    if facts.probes_left_out:
        yield Finding(
            "probe-bounded",
            Severity.NOTE,
            f"{facts.probes_left_out} more execute points were not probed",
            "",
            "htdag doctor --probe --limit N probes more",
        )


_NAMED = 3


def _silence(probe: Probe) -> str:
    return f"{probe.point}: {probe.problem}"


def _negotiator(facts: Facts) -> Iterator[Finding]:
    text = facts.settings.get("NEGOTIATOR_INTERVAL")
    if facts.place == "local" or not facts.points:
        return
    if text is None:
        yield Finding(
            "negotiator-unknown",
            Severity.NOTE,
            "the negotiator does not reveal its settings (NEGOTIATOR_INTERVAL)",
            "",
            f"if nodes wait long for slots, {_ADMIN} a shorter NEGOTIATOR_INTERVAL",
        )
        return
    number = _number(text)
    interval = _NEGOTIATOR if number is None else number
    if interval > 10:
        yield Finding(
            "negotiator-interval",
            Severity.SLOWS,
            f"negotiation cycles are {interval:g} s apart (NEGOTIATOR_INTERVAL)",
            _NEGOTIATOR_COST,
            f"{_ADMIN} a shorter NEGOTIATOR_INTERVAL; it is one setting for all users",
        )


def _submit_side(facts: Facts) -> Iterator[Finding]:
    if facts.place == "local":
        return
    scan = _seconds(facts, "DAGMAN_USER_LOG_SCAN_INTERVAL", _SCAN)
    if scan > 1:
        yield Finding(
            "scan-interval",
            Severity.SLOWS,
            f"DAGMan reads its log every {scan:g} s (DAGMAN_USER_LOG_SCAN_INTERVAL)",
            _SCAN_COST,
            f"{_ADMIN} DAGMAN_USER_LOG_SCAN_INTERVAL = 1; a DAG itself cannot set it lower",
        )
    calm = _is_true(facts.settings.get("GUIDANCE_KEEP_CALM_AND", ""))
    if not calm and _is_at_least(facts.schedd, (24, 5)):
        yield Finding(
            "guidance",
            Severity.SLOWS,
            "jobs with file transfer often wait 5 s before they start",
            _GUIDANCE_COST,
            f"{_ADMIN} GUIDANCE_KEEP_CALM_AND = True on the submit machine",
        )
    minimum = _seconds(facts, "SCHEDD_MIN_INTERVAL", _SCHEDD_MIN)
    if minimum > 1:
        yield Finding(
            "schedd-min-interval",
            Severity.SLOWS,
            f"the schedd handles new jobs at most every {minimum:g} s (SCHEDD_MIN_INTERVAL)",
            _SCHEDD_MIN_COST,
            f"{_ADMIN} SCHEDD_MIN_INTERVAL = 1",
        )


def _claims(facts: Facts) -> Iterator[Finding]:
    if facts.place == "local":
        return
    hold = _seconds(facts, "DAGMAN_HOLD_CLAIM_TIME", _HOLD)
    interval = _seconds(facts, "SCHEDD_INTERVAL", _SCHEDD)
    if hold > 0 and interval > 5:
        yield Finding(
            "kept-claims",
            Severity.NOTE,
            f"DAGMan keeps claims for {hold:g} s (DAGMAN_HOLD_CLAIM_TIME), which the schedd passes "
            f"on only every {interval:g} s (SCHEDD_INTERVAL)",
            _CLAIMS_COST,
            "none is needed for htdag, whose DAGs set DAGMAN_HOLD_CLAIM_TIME = 0; set it in others",
        )


def _versions(facts: Facts) -> Iterator[Finding]:
    if facts.place == "local":
        return
    if facts.schedd and facts.bindings and _major(facts.schedd) != _major(facts.bindings):
        yield Finding(
            "bindings-version",
            Severity.NOTE,
            f"HTCondor's Python bindings are {facts.bindings}, the schedd is {facts.schedd}",
            "they work together here; but bindings 25.14.1 could log in to daemons of 23.9.6 only "
            "with SEC_FS_ENFORCE_CHANNEL_BINDING = False in the local configuration",
            f"none is needed; or pip install 'htcondor=={_major(facts.schedd)}.*'",
        )
    versions = sorted({point.version for point in facts.points if point.version})
    old = [
        one for one in dict.fromkeys((facts.schedd, *versions)) if not _is_at_least(one, _OLDEST)
    ]
    if old:
        yield Finding(
            "old-version",
            Severity.NOTE,
            f"HTCondor {' and '.join(old)} is here, and htdag was never tested on a version before "
            f"{_OLDEST[0]}.{_OLDEST[1]}",
            "none is known",
            f"{_ADMIN} a newer HTCondor",
        )
    others = [one for one in versions if facts.schedd and _major(one) != _major(facts.schedd)]
    if others:
        yield Finding(
            "point-versions",
            Severity.NOTE,
            f"the schedd is {facts.schedd}, and execute points are {', '.join(others)}",
            "none is known; but if jobs fail on one version only, this may be why",
            "the option requirements selects execute points",
        )


def _clocks(facts: Facts) -> Iterator[Finding]:
    off = [
        point
        for point in facts.points
        if point.clock_ahead is not None and abs(point.clock_ahead) > _CLOCK
    ]
    if off and facts.place != "local":
        worst = max(off, key=lambda point: abs(point.clock_ahead or 0))
        yield Finding(
            "clock",
            Severity.NOTE,
            f"the clocks of {len(off)} execute points differ from this machine's, that of "
            f"{worst.name} by {worst.clock_ahead:+.0f} s",
            "times in records and logs of jobs are wrong by that much",
            f"{_ADMIN} a time service (NTP) there",
        )


_CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _place,
    _directory,
    _slots,
    _python,
    _negotiator,
    _submit_side,
    _claims,
    _versions,
    _clocks,
)


def _seconds(facts: Facts, name: str, default: int) -> float:
    number = _number(facts.settings.get(name))
    return default if number is None else number


def _number(text: str | None) -> float | None:
    """Return a plain number; None for expressions, which depend on a job."""
    return float(text) if text and re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else None


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "t", "yes", "1")


def _major(version: str) -> str:
    return version.partition(".")[0]


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _is_at_least(version: str, wanted: tuple[int, int]) -> bool:
    numbers = re.findall(r"\d+", version)[:2]
    # A schedd that does not reveal its version may be new.
    return len(numbers) < 2 or (int(numbers[0]), int(numbers[1])) >= wanted
