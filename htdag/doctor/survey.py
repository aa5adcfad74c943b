"""Query an HTCondor for its versions, settings and execute points."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable

from htdag.backends.base import Ad
from htdag.backends.condor.bindings import htcondor2, using, version_number
from htdag.backends.condor.setup import Setup
from htdag.doctor.facts import ExecutePoint

_SLOT = [
    "Machine",
    "Name",
    "CondorVersion",
    "TotalSlotCpus",
    "TotalSlotMemory",
    "Start",
    "MyCurrentTime",
    "LastHeardFrom",
]


def schedd_version(setup: Setup | None) -> str | None:
    """Return the version of the schedd; None if none answers, "" if it does not reveal it."""
    try:
        with using(setup):
            htcondor2.Schedd().query(constraint="false", projection=["ClusterId"])
    except Exception:
        return None
    with contextlib.suppress(Exception), using(setup):
        ad: Ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)
        return version_number(str(ad["CondorVersion"]))
    return ""


def dagman_found(setup: Setup | None) -> bool:
    """Return whether condor_dagman is on the PATH that runs are submitted with."""
    with using(setup):
        return shutil.which("condor_dagman") is not None


def settings(
    setup: Setup | None, names: Iterable[str], negotiator: Iterable[str]
) -> dict[str, str]:
    """Return settings of this machine and of the negotiator.

    Settings that have no value, or that the negotiator does not reveal, are omitted.
    """
    values = {}
    with using(setup):
        for name in names:
            with contextlib.suppress(Exception):
                values[name] = str(htcondor2.param[name])
        with contextlib.suppress(Exception):
            ad = htcondor2.Collector().locate(htcondor2.DaemonType.Negotiator)
            remote = htcondor2.RemoteParam(ad)
            values |= {name: str(remote[name]) for name in negotiator}
    return values


def points(setup: Setup | None) -> tuple[ExecutePoint, ...]:
    """Return the execute points by their names, each with its largest slot."""
    with using(setup):
        collector = htcondor2.Collector()
        slots: list[Ad] = collector.query(
            htcondor2.AdType.Startd, 'SlotType =!= "Dynamic"', projection=_SLOT
        )
        name = ""
        with contextlib.suppress(Exception):
            name = str(collector.locate(htcondor2.DaemonType.Schedd)["Name"])
        schedds = collector.query(
            htcondor2.AdType.Schedd, f'Name == "{name}"', ["MyCurrentTime", "LastHeardFrom"]
        )
    own_offset = _offset(schedds[0]) if schedds else None
    largest: dict[str, ExecutePoint] = {}
    for slot in slots:
        # slot1@node7.example.org, or slot1@a@node7.example.org if the machine has several startds.
        point = str(slot.get("Name", "")).partition("@")[2] or str(slot.get("Machine"))
        offset = _offset(slot)
        entry = ExecutePoint(
            name=point,
            version=version_number(str(slot.get("CondorVersion", ""))),
            cpus=int(slot.get("TotalSlotCpus", 0)),
            memory_mb=int(slot.get("TotalSlotMemory", 0)),
            # If it is an expression, it depends on the job.
            starts_jobs=slot.get("Start") is not False,
            clock_ahead=None
            if own_offset is None or offset is None
            else float(offset - own_offset),
        )
        largest_point = largest.get(point)
        if largest_point is None or _size(largest_point) < _size(entry):
            largest[point] = entry
    return tuple(largest[name] for name in sorted(largest))


def _size(point: ExecutePoint) -> tuple[bool, int, int]:
    return point.starts_jobs, point.cpus, point.memory_mb


def _offset(ad: Ad) -> int | None:
    """Return how far a daemon's clock is ahead of the collector's, to within a second or two."""
    sent, heard = ad.get("MyCurrentTime"), ad.get("LastHeardFrom")
    return None if sent is None or heard is None else int(sent) - int(heard)
