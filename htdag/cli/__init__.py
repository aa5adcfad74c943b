"""The command line, `htdag`; each module holds the commands for one subject."""

from htdag.cli import inspect, items, jobs, manage, rerun, runs
from htdag.cli.completion import completion
from htdag.cli.doctor import doctor
from htdag.cli.errors import errors
from htdag.cli.main import main
from htdag.cli.pool import pool
from htdag.cli.settings import settings

__all__ = ["main"]

# In the order in which the help lists them.
main.add_section(
    "The basics",
    runs.runs,
    runs.status,
    runs.wait,
    errors,
    rerun.resume,
    runs.result,
)
main.add_section(
    "Details",
    jobs.why,
    jobs.jobs,
    items.items,
    inspect.stdout,
    inspect.stderr,
    inspect.debug,
    items.usage,
    items.path,
)
main.add_section(
    "Whole runs",
    rerun.rerun,
    runs.remove,
    manage.retag,
    manage.clean,
    manage.export,
    manage.import_,
    rerun.cache,
)
main.add_section(
    "Jobs of running runs",
    jobs.hold,
    jobs.release,
    jobs.pause,
    jobs.continue_,
    jobs.vacate,
    jobs.priority,
    jobs.edit,
    jobs.halt,
    jobs.unhalt,
)
main.add_section(
    "This machine",
    pool,
    doctor,
    settings,
    completion,
    runs.version,
)
