"""Updating the list of a node's jobs when it is submitted, from the records alone."""

from __future__ import annotations

import sys

from .. import lanes, planfile
from . import postlog, prepare, progress, submitfile


def renew(run: str, name: str) -> int:
    """Write the list of a node, or of a lane of it, and return the exit status: 0 for success.

    Call this when no job of it is running. Without all results of the nodes before it there is no
    list: jobs would take a part of them for all.
    """
    unit = lanes.unit(name)
    try:
        plan = planfile.read(run)
        node = plan["by_name"][unit.node]
        missing = [
            parent.name
            for parent in lanes.parents(plan, unit)
            if not progress.is_done(run, plan["by_name"][parent.node], parent.lane)
        ]
        if missing:
            text = "not submitted: by the records %s is not done" % ", ".join(missing)
            postlog.note(run, unit, text)
            return 1
        progress.finish_killed(run, node, unit.lane)
        jobs = prepare.prepare(run, plan, node, lane=unit.lane)
    except Exception:
        postlog.note_failure(run, unit, "not submitted: ")
        return 1
    postlog.note(run, unit, "listed %d job%s" % (jobs, "s" * (jobs != 1)))
    return 0


def memory_of(run: str, name: str) -> int:
    """Print the command by which a node requests the memory of its earlier jobs, if that is more.

    The submit description has it, too, but HTCondor has already opened the old one.
    """
    try:
        node = planfile.read(run)["by_name"][name]
        learnt = submitfile.raise_memory(run, node)
    except Exception:
        postlog.note_failure(run, lanes.Unit(name), "memory: ")
        return 0
    if learnt:
        postlog.note(run, lanes.Unit(name), learnt)
        sys.stdout.write("request_memory = %s\n" % submitfile.commands(run, name)["request_memory"])
    return 0
