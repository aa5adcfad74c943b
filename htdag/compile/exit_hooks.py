"""What a pipeline has called when a run of it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from htdag.compile.final import FinalFunction
from htdag.functions.pickling import check_function
from htdag.stages.checks import check_signature

if TYPE_CHECKING:
    from collections.abc import Callable


class AtEnd:
    """The part of a pipeline that is about the end of its runs."""

    def __init__(self) -> None:
        self._final: list[FinalFunction] = []

    def on_success(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Call a function on the access point when a run of this pipeline is done.

        It is called with a `RunSummary`, beside DAGMan (as its FINAL node) or the local run, in the
        Python that submitted, on one core for as long as it takes; the run has ended when it
        returns. Where it fails the run's result is as it is: `Run.final` tells. It is not called
        for a run that was removed or halted. Runs that were submitted before do not know of it.

        Parameters
        ----------
        function : callable
            Called as ``function(summary)``. What it prints is kept.

        Returns
        -------
        callable
            The function, so this can be a decorator.

        Raises
        ------
        FunctionError
            If it cannot be called so, or cannot be pickled.

        Examples
        --------
        >>> import htdag
        >>> flow = htdag.Pipeline(htdag.source(range(3)).map(abs))
        >>> @flow.on_success
        ... def tell(summary):
        ...     print(summary.tag, "is done, see", summary.path)
        """
        return self._at_end("success", function)

    def on_failure(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Call a function on the access point when a run of this pipeline has failed.

        After each `Run.resume` that fails again it is called again. All else is as for
        `on_success`.

        Parameters
        ----------
        function : callable
            Called as ``function(summary)``; ``summary.errors`` tells what failed.

        Returns
        -------
        callable
            The function.

        Raises
        ------
        FunctionError
            If it cannot be called so, or cannot be pickled.

        Examples
        --------
        >>> import htdag
        >>> flow = htdag.Pipeline(htdag.source(range(3)).map(abs))
        >>> @flow.on_failure
        ... def tell(summary):
        ...     print(summary.tag, "has", len(summary.errors), "errors")
        """
        return self._at_end("failure", function)

    def _at_end(self, when: str, function: Callable[..., Any]) -> Callable[..., Any]:
        check_function(function, f"on_{when}")
        check_signature(function, f"on_{when}", ["summary"], [], f"on_{when}")
        self._final.append(FinalFunction(when, function))
        return function
