"""The names of all files in a run directory. One owner: nothing else spells a path out.

All paths are relative to the run directory and written with ``/``: a job works with the same
relative paths whether its files were transferred or the file system is shared.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from _thread import get_ident
from typing import Any, Dict, List

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

_FICLONE = 0x40049409  # of Linux: two files share all blocks, until one is written to
_ATTEMPT_FILE = re.compile(r"(?P<chunk>\d+)\.(?P<attempt>\d+)\.(?P<rest>.+)")


def large_piece(digest: str) -> str:
    """Return the file of a large value that the user's modules hold."""
    return CODE + "/" + digest + ".piece"


def halt(dag: str) -> str:
    """Return the file at whose sight no further nodes of a DAG begin."""
    return dag + ".halt"


def environment_script(folder: str) -> str:
    """Return the script that finds the Python of an environment, and starts the runtime with it."""
    return folder + "/run.sh"


def environment_local_script(folder: str) -> str:
    """Return the script that does so on this machine, for an environment that HTCondor brings."""
    return folder + "/local.sh"


def node(name: str) -> str:
    """Return the folder of a node."""
    return NODES + "/" + name


def program(name: str) -> str:
    """Return the JSON file that says what a node's jobs do."""
    return node(name) + "/node.json"


def payload(name: str) -> str:
    """Return the pickled functions of a node."""
    return node(name) + "/functions.pickle"


def submit(name: str) -> str:
    """Return the submit description of a node."""
    return node(name) + "/" + name + ".sub"


def chunk_list(name: str, lane: int = 0) -> str:
    """Return the list that a node, or one lane of it, is queued from: a line a job."""
    return node(name) + ("/chunks.%d.txt" % lane if lane else "/chunks.txt")


def held(name: str) -> str:
    """Return what a submit description includes while its jobs are to come on hold."""
    return node(name) + "/held.txt"


def outdated(name: str, lane: int = 0) -> str:
    """Return the mark of a list that is to be made anew when its node is submitted."""
    return chunk_list(name, lane) + ".outdated"


def skipped(name: str) -> str:
    """Return the file that says that a node is done although some items failed."""
    return node(name) + "/skipped.json"


def at_once(name: str) -> str:
    """Return the file that says which limits a node was submitted without, for its long lines."""
    return node(name) + "/at_once.json"


def requests(name: str) -> str:
    """Return the file that says what each chunk asks for, where that depends on its items."""
    return node(name) + "/requests.json"


def delivered(name: str) -> str:
    """Return the file that says that returned files were put into the user's folder."""
    return node(name) + "/delivered.json"


def inputs(name: str) -> str:
    """Return the folder of source items and chunk descriptions."""
    return node(name) + "/in"


def source_items(name: str, chunk: str) -> str:
    """Return the item file that a chunk of a source node reads."""
    return inputs(name) + "/" + chunk + ".items"


def chunk(name: str, chunk: str, attempt: int) -> str:
    """Return the description of one job: what it reads and which items are left to do."""
    return "%s/%s.%d.json" % (inputs(name), chunk, attempt)


def user_file(digest: str) -> str:
    """Return the folder of one file of the user's, or directory: a link to it, or of links.

    The folder has a name that any transfer list can hold; within it the file has its own.
    """
    return FILES + "/" + digest


def outcomes(name: str) -> str:
    """Return the folder that the jobs' outcomes come back to."""
    return node(name) + "/out"


def record(name: str, chunk: str, attempt: int) -> str:
    """Return the JSON Lines record of one job: host, times, counts, errors. No user values."""
    return "%s/%s.%d.record" % (outcomes(name), chunk, attempt)


def output(name: str, chunk: str, attempt: int, stage: str) -> str:
    """Return the item file with one stage's values of one job."""
    return "%s/%s.%d.%s.items" % (outcomes(name), chunk, attempt, stage)


def checkpoints(name: str, chunk: str, attempt: int) -> str:
    """Return the folder of what the functions of one job put aside."""
    return "%s/%s.%d.checkpoint" % (outcomes(name), chunk, attempt)


def returned(name: str, chunk: str, attempt: int) -> str:
    """Return the folder of the files that the functions of one job returned."""
    return "%s/%s.%d.files" % (outcomes(name), chunk, attempt)


def work(name: str, chunk: str, attempt: int) -> str:
    """Return the folder in which a job works where no scratch directory is given to it."""
    return "%s/%s.%d.work" % (node(name), chunk, attempt)


def part(stage: str, number: int) -> str:
    """Return what stands for the stage in the name of the file of one partition of its values."""
    return "%s.p%03d" % (stage, number)


def source(name: str) -> str:
    """Return the folder of a source that is read by ranges of its items."""
    return SOURCES + "/" + name


def stored_items(name: str, number: int) -> str:
    """Return one of the item files of such a source."""
    return "%s/%04d.items" % (source(name), number)


def late_items(name: str, cell: int, number: int) -> str:
    """Return a link to items that a round of a loop reads: one file of a cell."""
    return "%s/%04d.%d.items" % (source(name), cell, number)


def step(name: str) -> str:
    """Return the run directory that each round of a loop is a copy of, without items."""
    return node(name) + "/step"


def rounds(name: str) -> str:
    """Return the folder of the rounds of a loop."""
    return node(name) + "/rounds"


def one_round(name: str, number: int) -> str:
    """Return the run directory of one round of a loop; they are counted from 1."""
    return "%s/%04d" % (rounds(name), number)


def loop_of(folder: str) -> str:
    """Return the loop to which a folder belongs that is a round of it, or inside of one."""
    return os.path.normpath(folder).split(os.sep)[1]


def current(name: str) -> str:
    """Return the link to the round of a loop that is under way, or was last."""
    return node(name) + "/current"


def loop_end(name: str) -> str:
    """Return the file that says that a loop is over, and why."""
    return node(name) + "/loop.json"


def last_round(run: str, name: str) -> int:
    """Return the number of the last round of a loop that was begun; 0 where none was."""
    try:
        entries = os.listdir(os.path.join(run, rounds(name)))
    except FileNotFoundError:
        return 0
    return max((int(entry) for entry in entries if entry.isdigit()), default=0)


def final_record(name: str) -> str:
    """Return the record of what was called at the end of a run, a line a call."""
    return node(name) + "/final.jsonl"


def chunking(name: str) -> str:
    """Return the file that says which items each chunk takes, where that shows at run time."""
    return node(name) + "/chunking.json"


def kept(name: str) -> str:
    """Return the folder with what another run has finished of the node's items."""
    return node(name) + "/kept"


def logs(name: str) -> str:
    """Return the folder of the jobs' streams."""
    return node(name) + "/log"


def stdout(name: str, chunk: str, attempt: int) -> str:
    """Return the file of a job's standard output."""
    return "%s/%s.%d.out" % (logs(name), chunk, attempt)


def stderr(name: str, chunk: str, attempt: int) -> str:
    """Return the file of a job's standard error."""
    return "%s/%s.%d.err" % (logs(name), chunk, attempt)


def chunk_name(number: int) -> str:
    """Return the name of a chunk: four digits or more, so that names sort as numbers."""
    return "%04d" % number


def attempts(run: str, name: str) -> Dict[int, List[int]]:
    """Return the attempts that left a record, by chunk number, in rising order."""
    found: Dict[int, List[int]] = {}
    try:
        entries = os.listdir(os.path.join(run, outcomes(name)))
    except FileNotFoundError:
        return found
    for entry in entries:
        match = _ATTEMPT_FILE.fullmatch(entry)
        if match and match.group("rest") == "record":
            found.setdefault(int(match.group("chunk")), []).append(int(match.group("attempt")))
    for numbers in found.values():
        numbers.sort()
    return found


def write_aside(path: str, data: bytes, *, sync: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new, never a part of it.

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
    """A file of a run is not what was written: cut off, another content, not to be read."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path = path
        self.what = what

    def __str__(self) -> str:
        return "the file %s is damaged: %s" % (self.path, self.what)


class MissingFile(DamagedFile):
    """A file of a run is not there (yet)."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "it is missing")

    def __reduce__(self) -> Any:
        return MissingFile, (self.path,)


def read_json(path: str, *keys: str, kind: Any = dict) -> Any:
    """Return what a JSON file holds, which is of a kind; of an object, with all of some keys.

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
        raise DamagedFile(path, "it is no JSON (%s)" % error) from error
    if not isinstance(content, kind):
        raise DamagedFile(path, "it holds a %s of JSON" % type(content).__name__)
    missing = [key for key in keys if key not in content]
    if missing:
        raise DamagedFile(path, "it lacks %s" % ", ".join(missing))
    return content


def unblocked(path: str, flags: int) -> int:
    """Open a file, for `open`; at a pipe nobody waits for who writes into it."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no ordinary file", path)
    return descriptor


def make_folder(path: str) -> None:
    """Make a folder, and those above it that are missing, for this user alone; it may be there.

    The umask, which may leave more to others or take from the user herself, does not matter.
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
    """Remove a folder with all that is in it, as far as that can be done; there may be none."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError:
        import shutil  # it takes time, which most jobs need not spend

        shutil.rmtree(path, ignore_errors=True)


def link_or_copy(path: str, new: str) -> None:
    """Give a file another name, too; where the file system cannot, make a copy of it."""
    try:
        os.link(path, new)
    except OSError:
        import shutil  # it takes time, which most jobs need not spend

        shutil.copy2(path, new)


def copy_content(old: int, new: int) -> None:
    """Copy the content of a file; where the file system can, both share their blocks."""
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
