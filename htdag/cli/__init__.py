"""The command line, `htdag`; each module holds the commands for one kind of thing."""

from htdag.cli import jobs, runs
from htdag.cli._group import main
from htdag.cli.doctor import doctor
from htdag.cli.pool import pool

__all__ = ["main"]

# In the order in which the help lists them.
for _verb in (
    runs.runs,
    runs.status,
    runs.wait,
    runs.errors,
    runs.result,
    runs.resume,
    runs.remove,
    jobs.why,
    jobs.jobs,
    jobs.hold,
    jobs.release,
    jobs.pause,
    jobs.continue_,
    jobs.vacate,
    jobs.priority,
    jobs.edit,
    jobs.halt,
    jobs.unhalt,
    pool,
    doctor,
    runs.version,
):
    main.add_command(_verb)
