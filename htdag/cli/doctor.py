"""The verb that looks at the pool."""

from __future__ import annotations

import sys

import click

from htdag.cli.console import DONE, FAILED, JSON, print_json


@click.command(short_help="Look for what would slow or break runs here.")
@click.option(
    "--probe",
    is_flag=True,
    help="Send a small job to each execute point, which tells what Python it has.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="With --probe: to at most N execute points.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="With --probe: how long to wait for them; they are removed then.",
)
@JSON
def doctor(probe: bool, limit: int, timeout: float, as_json: bool) -> None:
    """Look at where runs would go now, for what would slow or break them.

    Each finding comes with what it costs, as measured by htdag's developers, and what to do about
    it. It changes nothing. The exit status is 0, or 1 where something would break a run.

    \b
    Examples:
      htdag doctor
      htdag doctor --probe
    """
    from htdag.doctor.collect import collect
    from htdag.doctor.findings import Severity, findings

    facts = collect(probe, limit, timeout)
    found = findings(facts)
    if as_json:
        from dataclasses import asdict

        rows = [asdict(finding) | {"severity": finding.severity.value} for finding in found]
        print_json({"facts": asdict(facts), "findings": rows})
    else:
        from htdag.show.pool import print_findings

        print_findings(facts, found)
    broken = any(finding.severity is Severity.BREAKS for finding in found)
    sys.exit(FAILED if broken else DONE)
