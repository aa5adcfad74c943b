"""The command that checks the pool."""

from __future__ import annotations

import sys

import click

from htdag.cli.console import DONE, FAILED, JSON, print_json


@click.command(short_help="Check for what would slow or break runs here.")
@click.option(
    "--probe",
    is_flag=True,
    help="Send a small job to each execute point, to find out which Python it has.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="With --probe: send jobs to at most N execute points.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="With --probe: how long to wait for these jobs before they are removed.",
)
@JSON
def doctor(probe: bool, limit: int, timeout: float, as_json: bool) -> None:
    """Check where runs would go now for what would slow or break them.

    Each finding comes with its cost, as measured by htdag's developers, and a remedy. The command
    changes nothing. The exit status is 0, or 1 if something would break a run.

    \b
    Examples:
      htdag doctor
      htdag doctor --probe
    """
    from htdag.doctor.collect import collect
    from htdag.doctor.findings import Severity, findings

    facts = collect(probe, limit, timeout)
    results = findings(facts)
    if as_json:
        from dataclasses import asdict

        rows = [asdict(finding) | {"severity": finding.severity.value} for finding in results]
        print_json({"facts": asdict(facts), "findings": rows})
    else:
        from htdag.show.pool import print_findings

        print_findings(facts, results)
    broken = any(finding.severity is Severity.BREAKS for finding in results)
    sys.exit(FAILED if broken else DONE)
