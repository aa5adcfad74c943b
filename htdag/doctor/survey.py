"""Query an HTCondor for its versions, settings and execute points."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from typing import Any

from htdag.backends.condor.bindings import htcondor2, using, version_number
from htdag.backends.condor.setup import Setup

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
        ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd)
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


def points(setup: Setup | None) -> list[dict[str, Any]]:
    """Return the execute points, each with its largest slot, as fields of `ExecutePoint`."""
    with using(setup):
        collector = htcondor2.Collector()
        slots = collector.query(htcondor2.AdType.Startd, 'SlotType =!= "Dynamic"', projection=_SLOT)
        name = ""
        with contextlib.suppress(Exception):
            name = str(collector.locate(htcondor2.DaemonType.Schedd)["Name"])
        schedds = collector.query(
            htcondor2.AdType.Schedd, f'Name == "{name}"', ["MyCurrentTime", "LastHeardFrom"]
        )
    own_offset = _offset(schedds[0]) if schedds else None
    largest: dict[str, dict[str, Any]] = {}
    for slot in slots:
        # slot1@node7.example.org, or slot1@a@node7.example.org if the machine has several startds.
        point = str(slot.get("Name", "")).partition("@")[2] or str(slot.get("Machine"))
        offset = _offset(slot)
        entry = {
            "name": point,
            "version": version_number(str(slot.get("CondorVersion", ""))),
            "cpus": int(slot.get("TotalSlotCpus", 0)),
            "memory_mb": int(slot.get("TotalSlotMemory", 0)),
            # If it is an expression, it depends on the job.
            "starts_jobs": slot.get("Start") is not False,
            "clock_ahead": None
            if own_offset is None or offset is None
            else float(offset - own_offset),
        }
        known = largest.get(point)
        if known is None or (known["starts_jobs"], known["cpus"], known["memory_mb"]) < (
            entry["starts_jobs"],
            entry["cpus"],
            entry["memory_mb"],
        ):
            largest[point] = entry
    return sorted(largest.values(), key=lambda entry: str(entry["name"]))


def _offset(ad: Any) -> int | None:
    """Return how far a daemon's clock is ahead of the collector's, to within a second or two."""
    sent, heard = ad.get("MyCurrentTime"), ad.get("LastHeardFrom")
    return None if sent is None or heard is None else int(sent) - int(heard)
