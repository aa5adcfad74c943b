"""The POST script of a node: judges the try from the records alone, and prepares the next."""

from __future__ import annotations

import os

from .. import lanes, planfile
from . import judgement, looping, postlog


def post(run: str, name: str, retry: int, max_retries: int) -> int:
    """Return the exit status of the POST script.

    0: done; 1: failed; 3: failed, stop the DAG; 4: failed, do not retry. ``name`` is that of a
    node, or of a lane of it.
    """
    plan = planfile.read(run)
    unit = lanes.unit(name)
    node = plan["by_name"][unit.node]
    last_try = retry >= max_retries
    verdict = judgement.judge(run, plan, node, last_try=last_try, lane=unit.lane)
    postlog.note(run, unit, "try %d of %d: %s" % (retry + 1, max_retries + 1, verdict.text))
    if verdict.succeeded:
        return 0
    if (last_try or verdict.hopeless) and node["on_error"] == "stop":
        return 3
    return judgement.NO_RETRY if verdict.hopeless else 1


def loop_post(name: str, returned: int) -> int:
    """Return the exit status of the POST script of a loop, which runs in the current round."""
    run = os.path.join(*[os.pardir] * 4)
    plan = planfile.read(run)
    os.chdir(run)
    unit = lanes.Unit(name)
    try:
        verdict = looping.judge(".", plan, plan["by_name"][name], returned)
    except Exception:
        # Not 1, Python's own: then DAGMan would repeat the same round.
        postlog.note_failure(".", unit)
        return looping.FAILED
    postlog.note(".", unit, verdict.text)
    return verdict.status
