"""What a pipeline is planned to be: as a plan, in words, and as a picture."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from htdag import backends, history
from htdag.catalog.lookup import load
from htdag.common.text import Text
from htdag.config import settings as _settings
from htdag.errors import HtdagError
from htdag.options.pipeline_options import Throttles
from htdag.plan import Plan, make_plan
from htdag.plan.following import NO_LAYOUTS, Layouts
from htdag.plan.simulate import Capacity
from htdag.plan.stage_keys import all_stage_keys
from htdag.plan.tune import Measures, Settings
from htdag.run import resubmit

if TYPE_CHECKING:
    from collections.abc import Collection

    import graphviz
    import networkx as nx


class Planned:
    """The part of a pipeline that is about its plan."""

    name: str
    _graph: nx.DiGraph
    _targets: tuple[str, ...]
    _throttles: Throttles
    _settings: Settings
    _use_history: bool
    _capacities: dict[str, Capacity]

    @property
    def graph(self) -> nx.DiGraph:
        """The stages: node names are stage names, attribute ``stage``; edges have ``kind``.

        A copy: changing it does not change the pipeline.
        """
        return self._graph.copy()

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the stages whose results are asked for."""
        return self._targets

    def plan(self, on: str | None = None) -> Plan:
        """Plan the pipeline: which stages share a DAGMan node, and how many jobs each node has.

        A generator given as a source is read now, and kept on disk. Where earlier runs were
        measured, the plan follows them.

        Parameters
        ----------
        on : {"auto", "condor", "local"}, optional
            Where it is to run, as for `submit`: how many jobs can run at once there counts for
            plans that follow earlier runs.

        Returns
        -------
        Plan
            ``plan.graph`` is the `networkx.DiGraph` of nodes.

        Raises
        ------
        UsageError
            If there is no such `on`.
        EmptySourceError
            If a generator gave no items.

        Examples
        --------
        >>> import htdag
        >>> plan = htdag.Pipeline(htdag.map(abs, range(10), chunk_size=5)).plan("local")
        >>> [(node.name, node.chunks) for node in plan.nodes]
        [('abs', 2)]
        """
        return self._plan(place(on))

    def _plan(self, on: str, layouts: Layouts = NO_LAYOUTS, lanes: bool = True) -> Plan:
        backends.check_name(on)
        measures: Measures = {}
        if self._use_history:
            history.gather_finished()
            measures = history.measures_for(all_stage_keys(self._graph, self.name))
        return make_plan(
            self._graph,
            self._targets,
            self.name,
            measures=measures,
            capacity=self._capacity(on) if measures else None,
            settings=self._settings if lanes else replace(self._settings, lanes=1),
            throttles=self._throttles,
            layouts=layouts,
        )

    def _capacity(self, on: str) -> Capacity:
        if on not in self._capacities:
            self._capacities[on] = Capacity(*backends.slots(on))
        return self._capacities[on]

    def explain(
        self,
        on: str | None = None,
        tag: str | None = None,
        *,
        keep_finished: Collection[str] | bool = (),
    ) -> str:
        """Return the plan as text, with the reason for every decision.

        Parameters
        ----------
        on : {"auto", "condor", "local"}, optional
            Where it is to run, as for `plan`.
        tag : str, optional
            A run that has ended: for each stage, say whether ``submit(tag, resume=True)`` would
            reuse what that run has finished or compute it anew, and why. Nothing is changed.
        keep_finished : collection of str or bool
            As for `submit`.

        Returns
        -------
        str

        Raises
        ------
        RunNotFound, RunActive
            If there is no run with this tag, or it has not ended.

        Examples
        --------
        >>> import htdag
        >>> print(htdag.Pipeline(htdag.map(abs, [-1, 2])).explain())  # doctest: +SKIP
        """
        from htdag.show.explain import explain, explain_reuse

        if tag is None:
            return Text(explain(self.plan(on)))
        old = load(tag)
        plan = self._plan(place(on), resubmit.layouts(old.directory), lanes=False)
        found = resubmit.compare(old.directory, plan, resubmit.kept_stages(keep_finished))
        return Text(f"{explain(plan)}\n\n{explain_reuse(old.tag, found)}")

    def render(
        self, path: str | os.PathLike[str] | None = None, level: str = "stages"
    ) -> graphviz.Digraph:
        """Draw the pipeline.

        Parameters
        ----------
        path : path, optional
            Where to write the picture; the suffix gives its format: ``.svg``, ``.png``, ``.pdf``
            or ``.dot``. Without Graphviz's program ``dot``, SVG is drawn all the same.
        level : {"stages", "nodes"}
            Draw stages, grouped by the node that they are fused into, or the DAGMan nodes alone.

        Returns
        -------
        graphviz.Digraph
            The drawing, which notebooks show.

        Raises
        ------
        UsageError
            If the format is not known, or needs the program ``dot`` and it is not there.

        Examples
        --------
        >>> import htdag
        >>> flow = htdag.Pipeline(htdag.map(abs, [-1, 2]))
        >>> flow.render("pipeline.svg")  # doctest: +SKIP
        """
        from htdag.show.diagram import draw

        return draw(self.plan(), path, level)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """Show the diagram of stages where a notebook shows a value."""
        from htdag.show.rendering import rendered

        bundle = {"text/plain": repr(self)}
        with contextlib.suppress(HtdagError):  # without the picture where none can be drawn
            bundle["image/svg+xml"] = rendered(self.render(), "svg").decode()
        return bundle


def place(on: str | None) -> str:
    """Return where to run: as code says, else as the settings do."""
    return str(_settings.resolve("on").value) if on is None else on
