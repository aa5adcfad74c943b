"""The command line, `htdag`; each module holds the commands for one kind of thing."""

from htdag.cli import again, jobs, keep, look, runs
from htdag.cli._group import main
from htdag.cli.completion import completion
from htdag.cli.doctor import doctor
from htdag.cli.errors import errors
from htdag.cli.pool import pool
from htdag.cli.settings import settings

__all__ = ["main"]

# In the order in which the help lists them.
for _verb in (
    runs.runs,
    runs.status,
    runs.wait,
    errors,
    look.stdout,
    look.stderr,
    look.debug,
    runs.result,
    again.resume,
    again.rerun,
    runs.remove,
    again.cache,
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
    keep.retag,
    keep.clean,
    keep.export,
    keep.import_,
    pool,
    doctor,
    settings,
    completion,
    runs.version,
):
    main.add_command(_verb)
