"""Measurements of a job's memory and disk. The times of stages are in `calls`."""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING, Optional, Tuple

from .. import layout, requests
from ..data import itemfile
from ..files import file_references
from ..task import Job
from . import workdir

if TYPE_CHECKING:
    from ..formats.record import JobUsage

_MOST_ENTRIES = 20_000  # of a scratch directory: a function may leave millions of files there


def resident_kb() -> int:
    """Return the memory of this process, including shared pages, in KB."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize() // 1024
    except (OSError, ValueError, IndexError):
        return _peak_kb(resource.RUSAGE_SELF)


def _peak_kb(who: int) -> int:
    peak = resource.getrusage(who).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def whole_job(job: Job) -> JobUsage:
    """Return the memory and the disk of a job whose functions have ended.

    ``peak_kb`` is the memory of its largest process: the worker, the child that ran the user's
    functions, or a program that they started and waited for. ``disk_kb`` is what it had on disk at
    its end (0: unknown); ``disk_fixed_kb`` the part of that which does not depend on the chunk.
    """
    try:
        whole, fixed = _disk(job)
    except (OSError, ValueError):
        whole, fixed = 0, 0  # readers report what is wrong with a job's files
    return {
        "peak_kb": max(_peak_kb(resource.RUSAGE_CHILDREN), _peak_kb(resource.RUSAGE_SELF)),
        "disk_kb": -(-whole // 1024),
        "disk_fixed_kb": min(whole, fixed) // 1024,
    }


def _disk(job: Job) -> Tuple[int, int]:
    """Return the bytes of a job's files, and of those that every chunk has."""
    shared = layout.is_run_directory()
    bound = {
        path
        for bind in job.description["binds"].values()
        for part in bind["parts"]
        for path in part["files"]
    }
    fixed = sum(map(_size, [*bound, job.payload, layout.RUNTIME]))
    if not shared:
        return _left_in("."), fixed
    read = {
        path
        for stream in job.description["streams"]
        for part in stream["parts"]
        for path in part["files"]
    }
    whole = fixed + sum(map(_size, [*read, *job.item_files, job.record])) + _linked(job)
    whole += _left_in(job.files.returned)
    whole += _left_in(os.environ.get("_CONDOR_SCRATCH_DIR") or workdir.folder_of(job))
    return whole, fixed


def _linked(job: Job) -> int:
    """Return the bytes of the files that travel with what a job reads, in place."""
    if not job.program.get("reads_files"):
        return 0
    linked = {
        reference
        for stream in job.description["streams"]
        for part in stream["parts"]
        for references in itemfile.references(part["files"])
        for reference in references
    }
    total = 0
    for file in map(file_references.parsed, linked):
        path = file.get("path") or os.path.join(file.get("at", ""), file["name"])
        total += _left_in(path, follow=True) if os.path.isdir(path) else _size(path)
    return total


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _left_in(folder: str, follow: bool = False) -> int:
    """Return the bytes of all files below a folder, as far as they are accessible."""
    total = entries = 0
    folders = [folder]
    while folders and entries < _MOST_ENTRIES:
        try:
            with os.scandir(folders.pop()) as listing:
                for entry in listing:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif follow or not entry.is_symlink():
                        total += entry.stat(follow_symlinks=follow).st_size
        except OSError:
            continue  # a file that is gone meanwhile, or a folder that is closed to us
    return total


def requested_memory() -> Optional[int]:
    """Return the memory that this job requests, in MB; None if HTCondor does not say."""
    return requests.number(requests.ad("_CONDOR_JOB_AD"), "RequestMemory")
