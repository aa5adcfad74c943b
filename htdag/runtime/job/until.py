"""Whether a loop is over: asked, in the last job of a round, of the state that it ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

from ..api.context import Cursor
from ..data import recordfile
from .bound import Bound
from .program import truth

if TYPE_CHECKING:
    from ..formats.task import CheckEntry


class CheckSink:
    """Takes the state, and notes in the job's record what the user's predicate says of it.

    Parameters
    ----------
    check : dict
        What the program of the node says of it.
    function : callable
        The predicate.
    bound : dict
        The values of bound stages by name, among them the state before the round.
    record : str
        The job's record.
    cursor : Cursor
        Kept up to date for error reports.
    """

    keeps = True

    def __init__(
        self,
        check: CheckEntry,
        function: Any,
        bound: Dict[str, Bound],
        record: str,
        cursor: Cursor,
    ) -> None:
        self._stage = check["stage"]
        self._previous = () if check["previous"] is None else (bound[check["previous"]],)
        self._function = function
        self._record = record
        self._cursor = cursor

    def take(self, key: str, value: Any) -> None:
        """Ask the predicate."""
        self._cursor.stage = self._stage
        previous = [each.fresh() for each in self._previous]
        over = truth(self._function(value, *previous))
        recordfile.append(self._record, "until", over)
