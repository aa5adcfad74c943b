"""The working directory of a job's functions, with the input files of its stage."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable

from .. import layout
from ..files import download, file_references, input_files
from ..task import Job


def folder_of(job: Job) -> str:
    """Return the folder of the job's own files, including its working directory.

    It is in HTCondor's scratch directory, if there is one.
    """
    scratch = os.environ.get("_CONDOR_SCRATCH_DIR")
    if scratch and os.path.isdir(scratch):
        return os.path.join(scratch, "%s.%s.work" % (job.node, job.files.stem))
    return os.path.abspath(job.files.work)


def _working(job: Job) -> str:
    return os.path.join(folder_of(job), "work")


def prepare(job: Job, anew: bool) -> None:
    """Make the folder of the files that the functions will return.

    An attempt that begins `anew` starts with an empty folder. One that continues keeps what it has
    returned; files that no finished item refers to are removed at its end.
    """
    layout.remove_tree(folder_of(job))
    if job.program.get("returns_files"):
        folder = job.files.returned
        if anew:
            layout.remove_tree(folder)
        layout.make_folder(folder)


def settle(job: Job) -> Job:
    """Change to the working directory of a job's functions, which this process will run.

    Returns the job with absolute paths.
    """
    root = os.getcwd()
    folder = folder_of(job)
    working = _working(job)
    layout.make_folder(working)
    collect = _collector(job, root, folder) if job.program.get("returns_files") else _unexpected
    inputs = job.program.get("input_files", ())
    brought = download.transferable(each["url"] for each in inputs if "url" in each)
    brought += job.description.get("urls", ())
    here = file_references.Here(root, os.path.join(folder, "fetched"), frozenset(brought), collect)
    file_references.enter(here)
    link_inputs(job, here, working)
    os.chdir(working)
    return job.at(root)


def fill(job: Job) -> None:
    """Put the input files into the working directory again, after a function has removed it."""
    here = file_references.here()
    if here is not None:
        link_inputs(job, here, os.curdir)


def _collector(job: Job, root: str, own: str) -> Callable[[str], Any]:
    from . import output_files  # it takes time, which most jobs need not spend

    return output_files.Collector(
        root,
        job.files.returned,
        os.path.realpath(own),
        layout.is_run_directory(),
        job.program.get("output_url", ""),
        os.path.join(own, "named"),
    ).collect


def link_inputs(job: Job, here: file_references.Here, working: str) -> None:
    """Put the input files of all jobs of a node into a working directory."""
    for each in job.program.get("input_files", ()):
        target = os.path.join(working, each["as"])
        if os.path.lexists(target):
            continue
        path = file_references.located(each, here)
        if path == each.get("path"):
            input_files.place(path, target)
        else:  # it was transferred, or fetched, for this job alone
            os.symlink(path, target)


def _unexpected(path: str) -> Any:
    raise RuntimeError(
        "OutputFile(%r): htdag did not see that a function of this node returns files, so nothing "
        "brings them back. Name htdag.OutputFile in the stage's function itself, or in a module of "
        "your project that it uses" % path
    )


def leave(job: Job) -> int:
    """Remove what the job's functions left, and return how many of their returned files count."""
    for folder in (_working(job), folder_of(job)):
        layout.remove_tree(folder)  # mostly both are empty, and soon gone
    if not job.program.get("returns_files"):
        return 0
    from . import output_files

    root = job.root or os.curdir
    folder = job.files.under("").returned
    number = output_files.clear(root, folder, job.item_files, job.program.get("output_url", ""))
    if not number and layout.is_run_directory(root):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(root, folder))  # elsewhere HTCondor asks for it
    return number
