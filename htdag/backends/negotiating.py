"""Materialise jobs late only where that brings them to the negotiator sooner.

A schedd asks for a negotiation when it materialises jobs, but not after each plain submit. So late
materialisation saves most of a minute a node where the negotiator looks once a minute. Where it
looks each second, late materialisation is what comes late: it costs one second or two a node.
"""

from __future__ import annotations

from pathlib import Path

from htdag.backends import abilities
from htdag.backends.bindings import htcondor2
from htdag.runtime import atonce, layout

_OFTEN = 5.0  # seconds from one periodic negotiation to the next


def settle_materialisation(run: Path) -> None:
    """Let jobs of a run be made at once, where this HTCondor negotiates often.

    Stages that limit how many jobs are in the queue keep their late materialisation.

    Parameters
    ----------
    run : pathlib.Path
        The run directory.
    """
    if _interval() > _OFTEN:
        return
    for node, submit in abilities.described(run):
        text = submit.read_text(encoding="utf-8")
        if atonce.LATE in text and not abilities.has_throttle(node, submit):
            layout.write_aside(str(submit), text.replace(atonce.LATE, "").encode(), sync=False)


def _interval() -> float:
    """Return the seconds between periodic negotiations, as far as this machine knows."""
    try:
        return float(htcondor2.param["NEGOTIATOR_INTERVAL"])
    except (KeyError, ValueError):
        return 60.0
