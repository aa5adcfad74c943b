"""The flow of files that travel through the nodes of a plan, determined before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from htdag.errors import OptionError, UsageError
from htdag.functions.annotations import holds_no_path
from htdag.functions.project import variables
from htdag.functions.reach import reach
from htdag.options import transfer
from htdag.options.stage_options import Options
from htdag.plan import Node, Plan
from htdag.runtime.api.command import Command
from htdag.runtime.files import download
from htdag.stages.sources import SourceItems

if TYPE_CHECKING:
    from htdag.runtime.formats.task import InputFile


@dataclass(frozen=True)
class FileFlow:
    """The files that travel to and from a node.

    Attributes
    ----------
    reads : bool
        Whether files may travel with the items that its jobs read.
    passes : bool
        Whether these may travel on with the values that its jobs return.
    returns : bool
        Whether its functions mention `OutputFile`, and so may return files.
    urls : bool
        Whether any of its files may be a URL.
    inputs : tuple of dict
        The references of the input files of all its jobs, each with its name in the job, ``as``.
    destination : str
        Its option ``output_destination``; "" if it has none.
    remaps : tuple of (str, str)
        Its option ``output_files``.
    """

    reads: bool = False
    passes: bool = False
    returns: bool = False
    urls: bool = False
    inputs: tuple[InputFile, ...] = ()
    destination: str = ""
    remaps: tuple[tuple[str, str], ...] = ()

    @property
    def output_url(self) -> str:
        """The URL to which HTCondor transfers the files that functions return; "": the run."""
        return self.destination if transfer.is_url(self.destination) and self.returns else ""

    @property
    def delivers(self) -> list[list[str]]:
        """The patterns of returned files, and the paths to which they are also delivered."""
        if not self.returns:
            return []
        rules = [list(rule) for rule in self.remaps]
        if self.destination and not self.output_url:
            rules.append(["*", self.destination + "/"])
        return rules

    @property
    def carries(self) -> bool:
        """Whether files may travel with the values that its jobs return."""
        return self.passes or self.returns

    @property
    def input_urls(self) -> list[str]:
        """The URLs among the input files that HTCondor can fetch."""
        return download.transferable(each["url"] for each in self.inputs if "url" in each)


def file_flows(plan: Plan) -> dict[str, FileFlow]:
    """Return the flow of files for each node of a plan, whose sources have all been read.

    Raises
    ------
    OptionError
        If an input file no longer exists.
    """
    result: dict[str, FileFlow] = {}
    stored = {each.stage: each.source for each in plan.sources}
    stored |= {
        name: stage.source
        for name, stage in plan.stages.nodes(data="stage")
        if stage.source is not None and stage.source.is_late
    }
    for node in plan.nodes:
        parents = [result[name] for name in node.parents]
        sources = list(_sources(node, stored))
        inputs = tuple(_inputs(node.options, node.name))
        returns = _returns(node)
        reads = any(each.carries for each in parents) or any(s.travelling for s in sources)
        destination = node.options.output_destination or ""
        result[node.name] = FileFlow(
            reads=reads,
            passes=reads and _passes(node),
            returns=returns,
            destination=destination,
            remaps=node.options.output_files or (),
            urls=(returns and transfer.is_url(destination))
            or any(each.urls for each in parents)
            or any(source.travelling.urls for source in sources)
            or any("url" in each for each in inputs),
            inputs=inputs,
        )
        _check_loop(node, result[node.name])
    return result


def _check_loop(node: Node, flow: FileFlow) -> None:
    """Raise `UsageError` for files in a loop: its rounds are run directories without them."""
    if node.round is None:
        return
    if flow.reads:
        raise UsageError(
            f"loop {node.name!r}: files may travel with items that it begins with or uses; map "
            f"them to values before the loop, with a function whose return type is annotated "
            f"(-> str), or give the stages in it the option input_files"
        )
    for name, inner in file_flows(node.round.plan).items():
        if inner.returns:
            raise UsageError(
                f"loop {node.name!r}: the functions of {name!r} mention OutputFile, but rounds of "
                f"a loop cannot return files; return their content"
            )


def _sources(node: Node, stored: dict[str, SourceItems]) -> Iterable[SourceItems]:
    if node.input.source is not None:
        yield node.input.source
        return
    names = [stream.stage for stream in node.input.streams if stream.node is None]
    names += [bind.stage for bind in node.binds if bind.node is None]
    yield from (stored[name] for name in names)


def _passes(node: Node) -> bool:
    """Return whether paths that a node reads may be in the values that it returns.

    They cannot be if all these values come from functions that are annotated to return something
    else. A node that passes no files on needs no POST script to list them for the next node.
    """
    steps = {step.stage: step for step in node.steps}

    def may_hold(stage: str | None) -> bool:
        while stage is not None:
            step = steps[stage]
            if not step.operation.keeps_items and holds_no_path(step.operation.function):
                return False
            stage = step.after
        return True

    if node.reduction is not None:
        return not holds_no_path(node.reduction.function)
    return any(may_hold(output.after) for output in node.outputs)


def _returns(node: Node) -> bool:
    functions: list[Any] = [step.operation.function for step in node.steps]
    functions.append(node.input.combine)
    for output in node.outputs:
        functions += [function for _, function in output.functions]
    if node.reduction is not None:
        functions.append(node.reduction.function)
    callables = [function for function in functions if function is not None]
    if "OutputFile" in reach(callables).names:
        return True
    used = [value for function in callables for _, _, value in variables(function)]
    return any(isinstance(each, Command) and each.returns == "file" for each in [*callables, *used])


def _inputs(options: Options, node: str) -> Iterable[InputFile]:
    for name, location in options.input_files or ():
        kind = transfer.TransferURL if transfer.is_url(location) else transfer.TransferPath
        transferred: Any = kind(location)
        try:
            yield {**transfer.reference_of(transferred), "as": name}
        except UsageError as error:
            raise OptionError(f"node {node!r}, option input_files: {error}") from error
