"""The class `Pipeline`: stages that are planned, drawn, compiled and submitted together."""

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
    """A pipeline: target stages, with all stages that they need.

    Parameters
    ----------
    *targets : Stage
        The stages whose results you want, one or more. Stages that several of them need are
        computed once.
    name : str, optional
        The pipeline's name; by default that of the (first) target.
    max_jobs_submitted : int, optional
        How many nodes may have submitted jobs at once (DAGMAN_MAX_JOBS_SUBMITTED, the ``-maxjobs``
        of condor_submit_dag); by default any number.
    max_jobs_idle : int, optional
        Submit no further node while this many jobs are idle (DAGMAN_MAX_JOBS_IDLE, ``-maxidle``);
        by default HTCondor's 1,000. The option ``max_idle`` limits the jobs of a single node.
    max_post_scripts : int, optional
        How many POST scripts may run at once (DAGMAN_MAX_POST_SCRIPTS, ``-maxpost``); by default
        HTCondor's 20.
    maxjobs : dict of str to int, optional
        For each ``category`` of stages, how many of its nodes may have submitted jobs at once
        (DAGMan's MAXJOBS).
    dagman : dict of str to str, optional
        Other settings of DAGMan for this pipeline, such as ``{"DAGMAN_SUBMIT_DELAY": 1}``, except
        those that htdag relies on.
    target_job_seconds : float, optional
        How many seconds a job should take, if chunks follow earlier runs. None: the value of
        ``HTDAG_TARGET_JOB_SECONDS`` in the environment, else 600.
    history : bool, optional
        Let chunks, memory and disk that are left open follow the measurements of earlier runs.
        None: the value of ``HTDAG_HISTORY`` in the environment (``on`` or ``off``), else True.
    lanes : int, optional
        How many lanes to cut nodes into that follow one another chunk by chunk, so that a chunk
        need not wait for all chunks of the previous node; 1: none. None: as many as save time,
        judging by earlier runs. A run with ``resume=True`` or ``cache=True`` has none.
    **default_options
        Default options for all stages.

    Raises
    ------
    StageNameError
        If two stages are given the same name.
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

    Run only one of two stages that use the same server at a time:

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
        self._options = stage_options.parse(default_options, str(what)).with_defaults(defaults)
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
        """The graph of stages: nodes are stage names with the attribute ``stage``.

        Edges have the attribute ``kind``. It is a copy: changing it does not change the pipeline.
        """
        return self._graph.copy()

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target stages."""
        return self._targets

    def plan(self, on: str | None = None) -> Plan:
        """Return the plan: which stages share a DAGMan node, and how many jobs each node has.

        If a source is a generator, it is read now and its items are stored on disk. If there are
        measurements of earlier runs, the plan follows them.

        Parameters
        ----------
        on : {"auto", "condor", "local"}, optional
            Where to run, as for `submit`: plans that follow earlier runs depend on how many jobs
            can run there at once.

        Returns
        -------
        Plan
            ``plan.graph`` is the `networkx.DiGraph` of nodes.

        Raises
        ------
        UsageError
            If `on` is not valid.
        EmptySourceError
            If a generator yields no items.

        Examples
        --------
        >>> import htdag
        >>> plan = htdag.Pipeline(htdag.map(abs, range(10), chunk_size=5)).plan("local")
        >>> [(node.name, node.chunks) for node in plan.nodes]
        [('abs', 2)]
        """
        return self._plan(_backend_name(on))

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
            Where to run, as for `plan`.
        tag : str, optional
            The tag of a run that has ended. The text then says for each stage whether
            ``submit(tag, resume=True)`` would reuse or recompute it, and why. Nothing is changed.
            If there is no such run yet, the text says so.
        keep_finished : collection of str or bool
            As for `submit`.

        Returns
        -------
        str
            The text.

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
        kept_stages = resubmit.kept_stages(keep_finished)
        try:
            old = load(tag)
        except RunNotFound as error:
            if resubmit.earlier_run(runs_directory() / tag, resume=True) is not None:
                raise
            return Text(f"{explain(self.plan(on))}\n\n{explain_first(str(error))}")
        plan = self._plan(_backend_name(on), resubmit.layouts(old.directory), lanes=False)
        decisions = resubmit.compare(old.directory, plan, kept_stages)
        return Text(f"{explain(plan)}\n\n{explain_reuse(old.tag, decisions)}")

    def render(
        self, path: str | os.PathLike[str] | None = None, level: str = "stages"
    ) -> graphviz.Digraph:
        """Draw the pipeline, and write the picture if a path is given.

        Parameters
        ----------
        path : path, optional
            Where to write the picture; the suffix gives its format: ``.svg``, ``.png``, ``.pdf``
            or ``.dot``. SVG does not need Graphviz's program ``dot``.
        level : {"stages", "nodes"}
            Draw stages, grouped by the node that they are fused into, or the DAGMan nodes alone.

        Returns
        -------
        graphviz.Digraph
            The drawing, which notebooks show.

        Raises
        ------
        UsageError
            If the format is unknown, or needs the program ``dot`` and it is not installed.

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

        It is the same that `submit` would write. The DAG is for the version of HTCondor on this
        machine; if there is none, it works with any version.

        Parameters
        ----------
        directory : path
            The directory to make. It must not exist, or be empty, and must not be under /tmp.

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
            The name of the run and of its directory; by default the pipeline's name with the time,
            which interactive sessions and notebooks print.
        on : {"auto", "condor", "local"}, optional
            Where to run: ``"condor"`` is the HTCondor configured on this machine, or else your own
            pool; ``"local"`` is this machine; ``"auto"`` is HTCondor if one answers, or else this
            machine, and prints which. By default the setting ``on``, whose default is ``"auto"``.
            With `resume`, ``"auto"`` is where the run was before.
        resume : bool
            If a run with this tag has ended, replace it by the new run, which reuses the finished
            items of stages whose code, relevant options and items are unchanged. This prints for
            each stage what is reused, what is not, and why.
        keep_finished : collection of str or bool
            With `resume`: the names of stages whose functions changed but whose finished items are
            still valid, so that only other items are computed; True for all stages.

        Returns
        -------
        Run
            The run.

        Raises
        ------
        StageNameError
            If the tag is taken and `resume` is False, or it is not a valid tag.
        RunActive
            If the run with this tag has not ended.
        BackendError
            If HTCondor refuses the run. No run is left behind then; an earlier one is unchanged.

        Examples
        --------
        >>> import htdag
        >>> run = htdag.Pipeline(htdag.map(abs, [-1, 2])).submit("survey")  # doctest: +SKIP
        >>> run.wait().result()  # doctest: +SKIP
        [1, 2]
        """
        on = _backend_name(on)
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
        """Submit a run, wait for it with a display of the progress, and return the result.

        Ctrl-C stops a run on this machine; one on HTCondor goes on. Either can be resumed.

        Parameters
        ----------
        tag, on, resume, keep_finished
            As for `submit`.

        Returns
        -------
        object
            The result of the target: the value of a reduce, or else a list. With several targets, a
            dict of results by stage name.

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

        It is called with a `RunSummary`, as DAGMan's FINAL node or by the local run, in the Python
        that submitted the run, on one core for as long as it takes; the run ends when it returns.
        If it fails, the run's results are not affected, and `Run.final` shows the error. It is not
        called for a run that was removed or halted, nor for runs that were submitted before.

        Parameters
        ----------
        function : callable
            Called as ``function(summary)``. Its output is kept.

        Returns
        -------
        callable
            The function, so that this can be a decorator.

        Raises
        ------
        FunctionError
            If it cannot be called with one argument, or cannot be pickled.

        Examples
        --------
        >>> import htdag
        >>> flow = htdag.Pipeline(htdag.source(range(3)).map(abs))
        >>> @flow.on_success
        ... def report(summary):
        ...     print(summary.tag, "is done, see", summary.path)
        """
        return self._at_end("success", function)

    def on_failure(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Call a function on the access point when a run of this pipeline has failed.

        It is called again after each `Run.resume` that fails. Everything else is as for
        `on_success`.

        Parameters
        ----------
        function : callable
            Called as ``function(summary)``; ``summary.errors`` has the errors.

        Returns
        -------
        callable
            The function.

        Raises
        ------
        FunctionError
            If it cannot be called with one argument, or cannot be pickled.

        Examples
        --------
        >>> import htdag
        >>> flow = htdag.Pipeline(htdag.source(range(3)).map(abs))
        >>> @flow.on_failure
        ... def report(summary):
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
        # Reuse works for whole nodes, not for lanes.
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
        """Return the representations for notebooks, with the diagram of stages."""
        from htdag.show.rendering import rendered

        bundle = {"text/plain": repr(self)}
        with contextlib.suppress(HtdagError):  # there is no picture if none can be drawn
            bundle["image/svg+xml"] = rendered(self.render(), "svg").decode()
        return bundle


def _check_expressions(plan: Plan) -> None:
    """Raise `OptionError` for ClassAd expressions that HTCondor would refuse."""
    expressions.check(
        (f"stage {node.stages[0] if node.stages else node.name!r}: option {name}", text)
        for node in plan.nodes_with_jobs
        for name, text in node.options.expressions()
    )


def _backend_name(on: str | None) -> str:
    """Return where to run: the argument, or else the setting."""
    return str(settings.resolve("on", on).value)
