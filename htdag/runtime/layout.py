"""The names of files in a run directory, apart from those that DAGMan itself gives.

`RunFiles`, `NodeFiles` and `AttemptFiles` are bound to a run directory once, and have a property or
a method for each file. Bound to "", they give names that are relative to it and written with ``/``:
a job works with the same ones whether its files were transferred or the file system is shared.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from _thread import get_ident
from typing import Any, Dict, Iterable, List, Optional, Union

RUN = "run.json"
PLAN = "plan.json"
RUNTIME = "runtime.pyz"
POST = "post.sh"
LIST = "list.sh"
UNLISTED = "could-not-be-listed:see:"
FINAL = "final.sh"
CONFIG = "dagman.config"
LOCAL_STATE = "local.state.json"
LOCAL_LOCK = "local.lock"
LOCAL_LOG = "local.log"
ROUND_DAG = "round.dag"
LOCAL_JOBS = "local.jobs.json"
NODES = "nodes"
SOURCES = "sources"
SAME = "identities.bin"
IDENTITY = "identity.json"
REPLACED = "replaced"
TICKET = "submit.json"
FILES = "files"
ENVIRONMENTS = "environments"
CODE = "code"
IMAGE = CODE + "/modules.image"
CACHE_TODO = "cache.todo"
REMOVED = "removed.json"
PACK_INDEX = "index.jsonl"

Directory = Union[str, "os.PathLike[str]"]

_FICLONE = 0x40049409  # of Linux: two files share all blocks, until one is written to
_ATTEMPT_FILE = re.compile(r"(?P<chunk>\d+)\.(?P<attempt>\d+)\.(?P<rest>.+)")


class RunFiles:
    """The files of a run directory, or of that of a round, which belong to no node.

    Parameters
    ----------
    run : str or path
        The directory; "" for names that are relative to it, as its own files have them.
    """

    __slots__ = ("_run",)

    def __init__(self, run: Directory = "") -> None:
        self._run = os.path.join(run, "")

    def halt(self, dag: str) -> str:
        """The file that keeps DAGMan from starting further nodes of a DAG."""
        return self._run + dag + ".halt"

    def large_piece(self, digest: str) -> str:
        """The file of a large value of the user's modules."""
        return self._run + CODE + "/" + digest + ".piece"

    def environment_script(self, folder: str) -> str:
        """The script that finds the Python of an environment, and starts the runtime with it."""
        return self._run + folder + "/run.sh"

    def environment_local_script(self, folder: str) -> str:
        """The same for this machine, for an environment that HTCondor brings to jobs."""
        return self._run + folder + "/local.sh"

    def user_file(self, digest: str) -> str:
        """The folder of one file of the user's, or directory: a link to it, or of links.

        The folder has a name that any transfer list can hold; within it the file has its own.
        """
        return self._run + FILES + "/" + digest

    def source(self, stage: str) -> str:
        """The folder of a source that is read by ranges of its items."""
        return self._run + SOURCES + "/" + stage

    def stored_items(self, stage: str, number: int) -> str:
        """One of the item files of such a source."""
        return "%s/%04d.items" % (self.source(stage), number)

    def late_items(self, stage: str, block: int, number: int) -> str:
        """A link to items that a round of a loop reads: one file of a block."""
        return "%s/%04d.%d.items" % (self.source(stage), block, number)


class NodeFiles:
    """The files of a node.

    Parameters
    ----------
    run : str or path
        The run directory, or that of a round; "" for names that are relative to it.
    name : str
        The node.
    """

    __slots__ = ("folder", "name", "run")

    def __init__(self, run: Directory, name: str) -> None:
        self.run = os.fspath(run)
        self.name = name
        self.folder = os.path.join(self.run, NODES, name)

    def attempt(self, chunk: int, number: int) -> AttemptFiles:
        """The files of one job: an attempt at a chunk."""
        return AttemptFiles(self, chunk, number)

    @property
    def program(self) -> str:
        """The JSON file that says what the jobs do."""
        return self.folder + "/node.json"

    @property
    def payload(self) -> str:
        """The pickled functions."""
        return self.folder + "/functions.pickle"

    @property
    def submit(self) -> str:
        """The submit description."""
        return "%s/%s.sub" % (self.folder, self.name)

    @property
    def held(self) -> str:
        """What the submit description includes while its jobs are to come on hold."""
        return self.folder + "/held.txt"

    def chunk_list(self, lane: int = 0) -> str:
        """The list from which the node, or one lane of it, is queued: a line for each job."""
        return self.folder + ("/chunks.%d.txt" % lane if lane else "/chunks.txt")

    def outdated(self, lane: int = 0) -> str:
        """The mark of a list that must be written again when the node is submitted."""
        return self.chunk_list(lane) + ".outdated"

    @property
    def skipped(self) -> str:
        """The file that says that the node is done although some items failed."""
        return self.folder + "/skipped.json"

    @property
    def at_once(self) -> str:
        """The file that says which limits the node was submitted without, due to long lines."""
        return self.folder + "/at_once.json"

    @property
    def requests(self) -> str:
        """The file with the requests of each chunk, if they depend on its items."""
        return self.folder + "/requests.json"

    @property
    def delivered(self) -> str:
        """The file that says that returned files were delivered to the user's folder."""
        return self.folder + "/delivered.json"

    @property
    def chunking(self) -> str:
        """The file that says which items each chunk takes, if that is known only at run time."""
        return self.folder + "/chunking.json"

    @property
    def inputs(self) -> str:
        """The folder of source items and chunk descriptions."""
        return self.folder + "/in"

    def source_items(self, chunk: int) -> str:
        """The item file that a chunk of a source node reads."""
        return "%s/%s.items" % (self.inputs, chunk_name(chunk))

    @property
    def outcomes(self) -> str:
        """The folder to which the jobs' outcomes come back."""
        return self.folder + "/out"

    @property
    def logs(self) -> str:
        """The folder of the jobs' streams."""
        return self.folder + "/log"

    @property
    def post_log(self) -> str:
        """The log of decisions about the node on the access point."""
        return self.folder + "/log/post.log"

    @property
    def final_record(self) -> str:
        """The record of the calls at the end of a run, a line for each."""
        return self.folder + "/final.jsonl"

    @property
    def kept(self) -> str:
        """The folder with what another run has finished of the node's items."""
        return self.folder + "/kept"

    def taken(self, lane: int = 0) -> str:
        """The file that says how much of that the node, or one lane of it, has taken over."""
        return self.folder + ("/kept.%d.json" % lane if lane else "/kept.json")

    @property
    def step(self) -> str:
        """The template of a loop: the run directory, without items, that its rounds copy."""
        return self.folder + "/step"

    @property
    def rounds(self) -> str:
        """The folder of the rounds of a loop."""
        return self.folder + "/rounds"

    def round(self, number: int) -> str:
        """The run directory of one round of a loop; they are counted from 1."""
        return "%s/%04d" % (self.rounds, number)

    def new_round(self, number: int) -> str:
        """The name of the directory of a round while it is being made."""
        return "%s/.%04d.new" % (self.rounds, number)

    @property
    def current(self) -> str:
        """The link to the current or last round of a loop."""
        return self.folder + "/current"

    @property
    def loop_end(self) -> str:
        """The file that says that a loop is over, and why."""
        return self.folder + "/loop.json"

    def last_round(self) -> int:
        """Return the number of the last round of a loop; 0 if there is none."""
        try:
            entries = os.listdir(self.rounds)
        except FileNotFoundError:
            return 0
        return max((int(entry) for entry in entries if entry.isdigit()), default=0)

    def last_listed(self, chunk: int) -> Optional[AttemptFiles]:
        """Return the last attempt at a chunk that was listed; None where there is none yet."""
        last = None
        while True:
            job = self.attempt(chunk, 1 if last is None else last.number + 1)
            if not os.path.exists(job.description):
                return last
            last = job

    def attempts(self) -> Dict[int, List[int]]:
        """Return the attempts that left a record, by chunk number, in rising order."""
        attempts: Dict[int, List[int]] = {}
        try:
            entries = os.listdir(self.outcomes)
        except FileNotFoundError:
            return attempts
        for entry in entries:
            match = _ATTEMPT_FILE.fullmatch(entry)
            if match and match.group("rest") == "record":
                attempts.setdefault(int(match.group("chunk")), []).append(
                    int(match.group("attempt"))
                )
        for numbers in attempts.values():
            numbers.sort()
        return attempts


class AttemptFiles:
    """The files of one job: an attempt at a chunk of a node; made by `NodeFiles.attempt`.

    Parameters
    ----------
    node : NodeFiles
        The files of its node.
    chunk, number : int
        The numbers of the chunk and of the attempt.
    stem : str
        How the names of its files begin, if that is not these numbers but macros.
    """

    __slots__ = ("chunk", "node", "number", "stem")

    def __init__(self, node: NodeFiles, chunk: int, number: int, stem: str = "") -> None:
        self.node = node
        self.chunk = chunk
        self.number = number
        self.stem = stem or "%s.%d" % (chunk_name(chunk), number)

    def under(self, run: Directory) -> AttemptFiles:
        """The files of the same job in another run directory, or with other names of it."""
        return AttemptFiles(NodeFiles(run, self.node.name), self.chunk, self.number)

    @property
    def description(self) -> str:
        """The description of what the job reads and which items are left to do."""
        return "%s/in/%s.json" % (self.node.folder, self.stem)

    @property
    def record(self) -> str:
        """The JSON Lines record of the job: host, times, counts, errors. No user values."""
        return "%s/out/%s.record" % (self.node.folder, self.stem)

    def output(self, stage: str) -> str:
        """The item file with one stage's values of the job, or a part of them."""
        return "%s/out/%s.%s.items" % (self.node.folder, self.stem, stage)

    def outputs(self, stages: Iterable[str]) -> List[str]:
        """The item files with the values of several stages."""
        start = "%s/out/%s." % (self.node.folder, self.stem)
        return [start + stage + ".items" for stage in stages]

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoints of the job's functions."""
        return "%s/out/%s.checkpoint" % (self.node.folder, self.stem)

    def with_earlier_checkpoints(self) -> Optional[AttemptFiles]:
        """Return the last attempt before this one that left checkpoints; None if none has."""
        for number in range(self.number - 1, 0, -1):
            earlier = self.node.attempt(self.chunk, number)
            if os.path.isdir(earlier.checkpoints):
                return earlier
        return None

    @property
    def returned(self) -> str:
        """The folder of the files that the functions of the job returned."""
        return "%s/out/%s.files" % (self.node.folder, self.stem)

    @property
    def work(self) -> str:
        """The folder in which the job works if it has no scratch directory."""
        return "%s/%s.work" % (self.node.folder, self.stem)

    @property
    def stdout(self) -> str:
        """The file of the job's standard output."""
        return "%s/log/%s.out" % (self.node.folder, self.stem)

    @property
    def stderr(self) -> str:
        """The file of the job's standard error."""
        return "%s/log/%s.err" % (self.node.folder, self.stem)


def loop_of(folder: str) -> str:
    """Return the loop of a folder that is a round, or inside of one."""
    return os.path.normpath(folder).split(os.sep)[1]


def part(stage: str, number: int) -> str:
    """Return the name that stands for the stage in the file of one partition of its values."""
    return "%s.p%03d" % (stage, number)


def chunk_name(number: int) -> str:
    """Return the name of a chunk: four digits or more, so that names sort as numbers."""
    return "%04d" % number


def is_run_directory(path: str = "") -> bool:
    """Return whether a directory is a run directory, not the part of one that a job gets.

    Without a path, this is about the current directory.
    """
    return os.path.exists(os.path.join(path, RUN))


def write_aside(path: str, data: bytes, *, sync: bool = True) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part of it.

    ``sync`` False is for what can be written again after a crash of the machine.
    """
    aside = "%s.%d.%d.tmp" % (path, os.getpid(), get_ident())
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)  # on a full disk it would be in the way of what comes next
        raise


class DamagedFile(ValueError):
    """A file of a run is damaged: cut off, changed, or unreadable."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path = path
        self.what = what

    def __str__(self) -> str:
        return "the file %s is damaged: %s" % (self.path, self.what)


class MissingFile(DamagedFile):
    """A file of a run does not exist (yet)."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "it is missing")

    def __reduce__(self) -> Any:
        return MissingFile, (self.path,)


def read_json(path: str, *keys: str, kind: Any = dict) -> Any:
    """Return the content of a JSON file, checked for its type and, if an object, for some keys.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DamagedFile
        If it holds anything else.
    """
    try:
        with open(path, encoding="utf-8", opener=unblocked) as file:
            content: Any = json.load(file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFile(path, "it cannot be read (%s)" % error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, "it is not JSON (%s)" % error) from error
    if not isinstance(content, kind):
        raise DamagedFile(path, "it holds a %s of JSON" % type(content).__name__)
    missing = [key for key in keys if key not in content]
    if missing:
        raise DamagedFile(path, "it lacks %s" % ", ".join(missing))
    return content


def unblocked(path: str, flags: int) -> int:
    """Open a file, as an opener for `open`, without blocking on a pipe."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def make_folder(path: str) -> None:
    """Make a folder and its missing parents, for this user only; it may exist.

    The result does not depend on the umask.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above:
        make_folder(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return  # another process has just made it
    mode = os.stat(path).st_mode
    if mode & 0o777 != 0o700:
        os.chmod(path, mode & 0o7000 | 0o700)


def sync(path: str) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: str) -> None:
    """Remove a folder and its content as far as possible; it need not exist."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError:
        import shutil  # it takes time, which most jobs need not spend

        shutil.rmtree(path, ignore_errors=True)


def link_or_copy(path: str, new: str) -> None:
    """Make a hard link to a file, or a copy if the file system cannot."""
    try:
        os.link(path, new)
    except OSError:
        import shutil  # it takes time, which most jobs need not spend

        shutil.copy2(path, new)


def copy_content(old: int, new: int) -> None:
    """Copy the content of a file, sharing its blocks if the file system can."""
    import fcntl  # which most of those who only need names do without

    with contextlib.suppress(OSError):
        fcntl.ioctl(new, _FICLONE, old)
        return
    copied = 0
    with contextlib.suppress(AttributeError, OSError):
        while True:
            number = os.copy_file_range(old, new, 1 << 30)
            if not number:
                break
            copied += number
    os.lseek(old, copied, os.SEEK_SET)
    while True:
        piece = os.read(old, 1 << 20)
        if not piece:
            return
        while piece:
            piece = piece[os.write(new, piece) :]
