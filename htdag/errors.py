"""The exceptions of htdag.

::

    HtdagError
    ├── UsageError            a mistake in the script, raised where it is made
    │   ├── OptionError           an option that does not exist or has a wrong value
    │   ├── StageNameError        a name or tag that cannot be used
    │   ├── EmptySourceError      a source without items
    │   ├── FunctionError         a function that cannot be pickled or called
    │   ├── ItemPickleError       an item that cannot be pickled
    │   ├── PackingError          an environment that cannot be packed
    │   └── DirectoryError        a directory that cannot hold a run
    ├── RunError              something about one run
    │   ├── RunFailed             the run ended, but not all of it succeeded
    │   ├── RunHeld               jobs are on hold and need a person
    │   ├── RunNotFound           no run has this tag
    │   ├── RunDamaged            a file of the run is missing or damaged
    │   ├── ValueUnreadable       a value of the run cannot be unpickled here
    │   ├── RunActive             the run is still running, and must not be
    │   └── RunEnded              the run has ended, and must not have
    ├── NotDone               the result is not there yet (also a TimeoutError)
    └── BackendError          HTCondor is missing, did not answer, or refused

    UserWarning
    ├── ItemsMissing          a result lacks items that failed and were skipped
    └── FinalFailed           a function of on_success or on_failure failed
"""

from __future__ import annotations

from typing import Any

from htdag.common.text import visible

__all__ = [
    "BackendError",
    "DirectoryError",
    "EmptySourceError",
    "FinalFailed",
    "FunctionError",
    "HtdagError",
    "ItemPickleError",
    "ItemsMissing",
    "NotDone",
    "OptionError",
    "PackingError",
    "RunActive",
    "RunDamaged",
    "RunEnded",
    "RunError",
    "RunFailed",
    "RunHeld",
    "RunNotFound",
    "StageNameError",
    "UsageError",
    "ValueUnreadable",
]


class HtdagError(Exception):
    """Base of all exceptions that htdag raises."""

    def __str__(self) -> str:
        return visible(super().__str__())  # it may hold text from jobs


class UsageError(HtdagError):
    """A mistake in the script, raised where it is made."""


class OptionError(UsageError):
    """An option that does not exist, or a value that it cannot take."""


class StageNameError(UsageError):
    """A name of a stage, pipeline or run that cannot be used."""


class EmptySourceError(UsageError):
    """A source has no items, or a pattern matches no files."""


class FunctionError(UsageError):
    """A function cannot be called, or cannot be pickled for the jobs."""


class ItemPickleError(UsageError):
    """An item of a source cannot be pickled for the jobs."""


class PackingError(UsageError):
    """An environment cannot be packed: the tool is missing, or fails."""


class DirectoryError(UsageError):
    """A directory that cannot hold a run."""


class RunError(HtdagError):
    """Something about one run."""


class RunFailed(RunError):
    """The run has ended, but not all of it succeeded.

    Attributes
    ----------
    errors : list of htdag.ItemError
        What failed, as `htdag.Run.errors` gives it.
    """

    def __init__(self, message: str, errors: list[Any] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or []


class RunHeld(RunError):
    """Jobs of the run are on hold: HTCondor waits for a person."""


class RunNotFound(RunError):
    """No run has this tag."""


class RunDamaged(RunError):
    """A file of the run is missing or damaged."""


class ValueUnreadable(RunError):
    """A value of the run cannot be unpickled here; the others can be read."""


class RunActive(RunError):
    """The run is still running, but the operation needs it to have ended."""


class RunEnded(RunError):
    """The run has ended, but the operation needs it to be running."""


class NotDone(HtdagError, TimeoutError):
    """The result is not there yet."""


class BackendError(HtdagError):
    """HTCondor is missing, did not answer, or refused a request."""


class ItemsMissing(UserWarning):
    """A result lacks items: some failed, and ``on_error="skip"`` skipped them."""


class FinalFailed(UserWarning):
    """A function of `Pipeline.on_success` or `on_failure` failed; the run's results are intact."""
