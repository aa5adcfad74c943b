"""Pipelines: stages planned, drawn, compiled and submitted together."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from htdag import backends
from htdag.backends.condor import expressions
from htdag.catalog.lookup import load, new_tag, release_tag
from htdag.checks import validation
from htdag.checks.names import check_stage_name, check_tag
from htdag.common.text import Text
from htdag.common.warn import say
from htdag.compile import environments, write_run
from htdag.compile.final import FinalFunction
from htdag.config import log, settings
from htdag.config.directories import check_for_dagman, runs_directory
from htdag.errors import HtdagError, RunNotFound, UsageError
from htdag.options import pipeline_options, stage_options
from htdag.plan import Plan, make_plan
from htdag.plan.layouts import NO_LAYOUTS, Layouts
from htdag.plan.simulate import Capacity
from htdag.plan.stage_keys import all_stage_keys
from htdag.plan.tune import Measures, Settings
from htdag.reuse import cache, history
from htdag.run import Run, resubmit
from htdag.stages import Stage, graph

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import graphviz
    import networkx as nx

__all__ = ["Pipeline"]


class Pipeline:
    """Stages whose results are wanted, with all that they need.

    Parameters
    ----------
    *targets : Stage
        The stages whose results are asked for, one or more. Stages that several of them share are
        computed once.
    name : str, optional
        The pipeline's name; by default the (first) target's.
    max_jobs_submitted : int, optional
        How many nodes may have their jobs submitted at once (DAGMAN_MAX_JOBS_SUBMITTED, the
        ``-maxjobs`` of condor_submit_dag); by default any number.
    max_jobs_idle : int, optional
        Submit no further node while this many jobs are idle (DAGMAN_MAX_JOBS_IDLE, ``-maxidle``);
        by default HTCondor's 1,000. The jobs of one node are limited by its option ``max_idle``.
    max_post_scripts : int, optional
        How many nodes may be judged at once (DAGMAN_MAX_POST_SCRIPTS, ``-maxpost``); by default
        HTCondor's 20.
    maxjobs : dict of str to int, optional
        For each ``category`` that stages have: how many nodes of it may have their jobs submitted
        at once (DAGMan's MAXJOBS).
    dagman : dict of str to str, optional
        Any other settings of DAGMan's for this pipeline, such as ``{"DAGMAN_SUBMIT_DELAY": 1}``;
        not those that htdag relies on.
    target_job_seconds : float, optional
        How many seconds a job should take where chunks follow earlier runs. None: what
        ``HTDAG_TARGET_JOB_SECONDS`` in the environment says, else 600.
    history : bool, optional
        Let chunks, memory and disk that are left open follow what earlier runs measured. None: as
        ``HTDAG_HISTORY`` in the environment says (``on`` or ``off``), else True.
    lanes : int, optional
        Into how many lanes nodes are cut that follow one another chunk by chunk, so that a chunk
        need not wait for all chunks of the node before; 1: none. None: as many as save time by
        what earlier runs measured. A run with ``resume=True``, or with ``cache=True``, has none.
    **default_options
        Options for all stages that do not give them.

    Raises
    ------
    StageNameError
        If two stages have the same given name.
    OptionError
        If an option does not exist or has a wrong value, a stage's category has no limit, or a
        limit is for a category that no stage has.

    Examples
    --------
    >>> import htdag
    >>> squares = htdag.source(range(5)).map(lambda x: x * x)
    >>> flow = htdag.Pipeline(squares.reduce(lambda a, b: a + b), name="sum_of_squares")
    >>> sorted(flow.graph)
    ['map', 'reduce', 'source']

    Of two stages that ask the same server, one at a time:

    >>> sizes = htdag.source(["a", "b"]).map(len, name="sizes", category="server")
    >>> codes = htdag.source(["a", "b"]).map(ord, name="codes", category="server")
    >>> flow = htdag.Pipeline(sizes, codes, maxjobs={"server": 1}, max_jobs_submitted=10)
    """

    def __init__(
        self,
        *targets: Stage,
        name: str | None = None,
        max_jobs_submitted: int | None = None,
        max_jobs_idle: int | None = None,
        max_post_scripts: int | None = None,
        maxjobs: Mapping[str, int] | None = None,
        dagman: Mapping[str, Any] | None = None,
        target_job_seconds: float | None = None,
        history: bool | None = None,
        lanes: int | None = None,
        **default_options: Any,
    ) -> None:
        if not targets:
            raise UsageError("a pipeline needs at least one target stage")
        what = name if name is not None else "pipeline"
        defaults = stage_options.parse(settings.options(), f"[options] of {settings.file()}")
        self._options = stage_options.parse(default_options, str(what)).over(defaults)
        stage_options.refuse_functions(self._options, str(what))
        self._use_history = settings.use_history(history)
        self._settings = Settings(
            settings.target_job_seconds(target_job_seconds), settings.lanes(lanes)
        )
        self._capacities: dict[str, Capacity] = {}
        self._graph, self._targets = graph.build(targets, self._options)
        self.name: str = (
            self._targets[0] if name is None else check_stage_name(name, what="pipeline")
        )
        throttles = {
            "max_jobs_submitted": max_jobs_submitted,
            "max_jobs_idle": max_jobs_idle,
            "max_post_scripts": max_post_scripts,
            "maxjobs": maxjobs,
            "dagman": dagman,
        }
        self._throttles = pipeline_options.parse(throttles, self.name)
        pipeline_options.check_categories(self._throttles, graph.categories(self._graph), self.name)
        self._final: list[FinalFunction] = []

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
        return self._plan(_place(on))

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
            reuse what that run has finished or compute it anew, and why. Nothing is changed. Where
            there is no such run yet, that is said.
        keep_finished : collection of str or bool
            As for `submit`.

        Returns
        -------
        str

        Raises
        ------
        RunActive
            If the run with this tag has not ended.

        Examples
        --------
        >>> import htdag
        >>> print(htdag.Pipeline(htdag.map(abs, [-1, 2])).explain())  # doctest: +SKIP
        """
        from htdag.show.explain import explain, explain_first, explain_reuse

        if tag is None:
            return Text(explain(self.plan(on)))
        kept = resubmit.kept_stages(keep_finished)
        try:
            old = load(tag)
        except RunNotFound as error:
            if resubmit.earlier_run(runs_directory() / tag, resume=True) is not None:
                raise
            return Text(f"{explain(self.plan(on))}\n\n{explain_first(str(error))}")
        plan = self._plan(_place(on), resubmit.layouts(old.directory), lanes=False)
        found = resubmit.compare(old.directory, plan, kept)
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

    def compile(self, directory: str | os.PathLike[str]) -> Path:
        """Write a run directory that ``condor_submit_dag`` runs unaided.

        It is the same that `submit` would write. What HTCondor's version decides goes by the one
        on this machine; where there is none, the DAG is one for any.

        Parameters
        ----------
        directory : path
            The directory to make; it must not exist, or be empty, and not be under /tmp.

        Returns
        -------
        pathlib.Path
            The DAG file.

        Raises
        ------
        DirectoryError
            If the directory cannot be made, or DAGMan would refuse it.

        Examples
        --------
        >>> import htdag
        >>> flow = htdag.Pipeline(htdag.map(abs, [-1, 2]))
        >>> flow.compile("walks")  # doctest: +SKIP
        """
        path = Path(os.path.abspath(validation.path(directory, "directory").expanduser()))
        check_for_dagman(path)
        plan = self.plan()
        environments.check(plan, "condor")
        _check_expressions(plan)
        return write_run(
            plan, path, path.name, functions=self._final, scheduler=backends.scheduler()
        )

    def submit(
        self,
        tag: str | None = None,
        on: str | None = None,
        *,
        resume: bool = False,
        keep_finished: Collection[str] | bool = (),
    ) -> Run:
        """Start a run and return at once.

        Parameters
        ----------
        tag : str, optional
            The name of the run, and of its directory; by default the pipeline's name with the time,
            which interactive sessions and notebooks print.
        on : {"auto", "condor", "local"}, optional
            Where to run: on HTCondor (the one that is configured on this machine, else your own
            pool), on this machine, or on HTCondor where one answers; ``"auto"`` prints which. By
            default as the setting ``on`` says, which is ``"auto"``. With
            `resume`, ``"auto"`` is where the run was before.
        resume : bool
            Where there is a run with this tag that has ended, put the new one in its place, with
            all that it has finished of stages whose code, options that matter, and items are
            unchanged. Prints for each stage what is reused, what is not, and why.
        keep_finished : collection of str or bool
            With `resume`: the names of stages whose functions changed, but whose finished items are
            still right, so that only the others are computed; True for all stages.

        Returns
        -------
        Run

        Raises
        ------
        StageNameError
            If the tag is taken and `resume` is False, or it cannot be a tag.
        RunActive
            If the run with this tag has not ended.
        BackendError
            If HTCondor refuses; no run is left behind then, and an earlier one is as it was.

        Examples
        --------
        >>> import htdag
        >>> run = htdag.Pipeline(htdag.map(abs, [-1, 2])).submit("survey")  # doctest: +SKIP
        >>> run.wait().result()  # doctest: +SKIP
        [1, 2]
        """
        on = _place(on)
        log.log_to_file()
        request = resubmit.request_of(self.name, tag, resume, keep_finished)
        checked = new_tag(self.name) if request.tag is None else check_tag(request.tag)
        try:
            run = self._start(checked, on, request)
        except BaseException:
            if request.tag is None:
                release_tag(checked)
            raise
        request.acknowledge()
        if request.tag is None and hasattr(sys, "ps1"):
            say(f"htdag: the run has the tag {run.tag!r}")
        return run

    def run(
        self,
        tag: str | None = None,
        on: str | None = None,
        *,
        resume: bool = False,
        keep_finished: Collection[str] | bool = (),
    ) -> Any:
        """Submit, wait with a display of the progress, and return the result.

        Ctrl-C stops a run on this machine; one on HTCondor goes on. Either can be resumed.

        Parameters
        ----------
        tag, on, resume, keep_finished
            As for `submit`.

        Returns
        -------
        object
            The result of the (only) target: the value of a reduce, else a list. With several
            targets a dict of results by stage name.

        Raises
        ------
        RunFailed, RunHeld
            As for `Run.wait`.

        Examples
        --------
        >>> import htdag
        >>> htdag.Pipeline(htdag.map(abs, [-1, 2])).run()  # doctest: +SKIP
        [1, 2]
        """
        run = self.submit(tag, on, resume=resume, keep_finished=keep_finished)
        try:
            run.wait(progress=True)
        except KeyboardInterrupt:
            run.interrupted()
            raise KeyboardInterrupt from None
        return run.result()

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

    def _plan(self, on: str, layouts: Layouts = NO_LAYOUTS, lanes: bool = True) -> Plan:
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

    def _start(self, tag: str, on: str, request: resubmit.ResumeRequest) -> Run:
        directory = runs_directory() / tag
        old = resubmit.earlier_run(directory, request.resume)
        backend, why = backends.choose(resubmit.resumed_backend(old, on))
        if why:
            say(f"htdag: {why}")
        backend.check_directory(directory)
        caches = any(stage.options.cache for _, stage in self._graph.nodes(data="stage"))
        if caches:
            cache.gather_ended()
        layouts = NO_LAYOUTS if old is None else resubmit.layouts(old)
        # What is taken over is laid out node by node, not lane by lane.
        plan = self._plan(backend.name, layouts, lanes=old is None and not caches)
        environments.check(plan, backend.name, backend.finds_packages)
        if backend.name == "condor":
            _check_expressions(plan)
        if old is None:
            resubmit.start_new(directory, tag, plan, backend, self._final)
        else:
            before = resubmit.resumed_ticket(old, on)
            resubmit.restart(old, plan, backend, request.keep_finished, before, self._final)
        return Run(directory)

    def _at_end(self, when: str, function: Callable[..., Any]) -> Callable[..., Any]:
        self._final.append(FinalFunction.checked(when, function))
        return function

    def __repr__(self) -> str:
        return f"<htdag.Pipeline {self.name!r}: {len(self._graph)} stages>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """Show the diagram of stages where a notebook shows a value."""
        from htdag.show.rendering import rendered

        bundle = {"text/plain": repr(self)}
        with contextlib.suppress(HtdagError):  # without the picture where none can be drawn
            bundle["image/svg+xml"] = rendered(self.render(), "svg").decode()
        return bundle


def _check_expressions(plan: Plan) -> None:
    """Refuse ClassAd expressions that HTCondor would refuse."""
    expressions.check(
        (f"stage {node.stages[0] if node.stages else node.name!r}: option {name}", text)
        for node in plan.nodes_with_jobs
        for name, text in node.options.expressions()
    )


def _place(on: str | None) -> str:
    """Return where to run: as code says, else as the settings do."""
    return str(settings.resolve("on", on).value)
