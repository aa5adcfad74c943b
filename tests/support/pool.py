"""A real HTCondor pool for the tests: two execute points, and nothing left when they end.

The point `seeing` shares the submit side's files, as on a cluster with a shared file system.
The point `blind` sees none of them: not the project, its environment, the homes or the run
directories, as on most real execute nodes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PROJECT = Path(__file__).resolve().parents[2]
# Not /tmp: DAGMan refuses to run a DAG from there. And short: sockets lie below it, whose
# paths may have 107 characters.
AREAS = Path("/var/tmp")
AREA_NAME = "htdag-pool-"
STAMP = ".get-htcondor.json"
APPTAINER = PROJECT / ".apptainer"

POINTS = ("seeing", "blind")
CPUS = 4  # jobs at once on each point, however many processors this machine has

# The two execute points, the same in every pool.
COMMON = {
    "NUM_CPUS": str(CPUS),
    "MEMORY": str(CPUS * 1024),
    "STARTD_NAME": "seeing",
    "FILESYSTEM_DOMAIN": "seeing.test",
    "UID_DOMAIN": "htdag.test",
    # Ports that nothing else uses, and that nobody outside reaches.
    "NETWORK_INTERFACE": "127.0.0.1",
    "SHARED_PORT_PORT": "0",
}

BLIND_DOMAIN = "blind.test"

# Jobs with +EnforceMemory = True may not use more memory than their slot has, as on real pools.
# Those rule by cgroups, which need an administrator.
_EXCEEDED = "(TARGET.EnforceMemory =?= True && TARGET.MemoryUsage > Memory)"
ENFORCING = {
    "PREEMPT": _EXCEEDED,
    "WANT_HOLD": _EXCEEDED,
    "WANT_HOLD_SUBCODE": "102",
    "WANT_HOLD_REASON": 'strcat("memory usage exceeded request_memory, using ", '
    'TARGET.MemoryUsage, " MB")',
    "WANT_SUSPEND": "False",
}

FAST = {
    **ENFORCING,
    "NEGOTIATOR_INTERVAL": "1",
    "NEGOTIATOR_MIN_INTERVAL": "1",
    "NEGOTIATOR_CYCLE_DELAY": "1",
    "SCHEDD_INTERVAL": "1",
    "SCHEDD_MIN_INTERVAL": "1",
    "DAGMAN_USER_LOG_SCAN_INTERVAL": "1",
    "DAGMAN_HOLD_CLAIM_TIME": "0",
    "GUIDANCE_KEEP_CALM_AND": "True",
}

# PersonalPool has settings of its own for these; here they are as HTCondor ships them.
DEFAULT = {
    "UPDATE_INTERVAL": "300",
    "POLLING_INTERVAL": "5",
    "NEGOTIATOR_INTERVAL": "60",
    "NEGOTIATOR_CYCLE_DELAY": "20",
    "STARTER_UPDATE_INTERVAL": "300",
    "STARTER_INITIAL_UPDATE_INTERVAL": "8",
}


# Newer bindings check that a login was asked for by the daemon that they called, which older
# daemons cannot show.
OLDER_DAEMONS = {"SEC_FS_ENFORCE_CHANNEL_BINDING": "False"}


class PoolError(Exception):
    """No pool, and what to do about it."""


# --- HTCondor and Python ----------------------------------------------------------------


@dataclass(frozen=True)
class Install:
    """Where HTCondor is: its programs, its settings, and the prefix if it is a private one."""

    path: tuple[Path, ...]
    settings: dict[str, str] = field(default_factory=dict)
    prefix: Path | None = None


def find_htcondor() -> Install:
    """The HTCondor to test with: a named one, the machine's, or the project's private one."""
    named = os.environ.get("HTDAG_TEST_HTCONDOR")
    if named:
        return private_htcondor(Path(named).resolve(), "HTDAG_TEST_HTCONDOR")
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
    master = shutil.which("condor_master", path=search)
    if master is not None:
        for folder in Path(master).resolve().parents:
            if (folder / STAMP).exists():
                return private_htcondor(folder, "PATH")
        return Install(path=(Path(master).parent,))
    return private_htcondor(PROJECT / ".htcondor", None)


def private_htcondor(prefix: Path, why: str | None) -> Install:
    """The prefix that tools/get-htcondor made."""
    if not (prefix / STAMP).exists():
        looked = f"{why} names {prefix}, which" if why else f"PATH has no condor_master, {prefix}"
        raise PoolError(
            f"There is no HTCondor for the tests: {looked} holds none.\n"
            f"Build one with:  tools/get-htcondor .htcondor   (in {PROJECT})"
        )
    text = (prefix / "condor_config").read_text()
    settings = dict(re.findall(r"^(\w+) *= *(.*)$", text, re.MULTILINE))
    return Install((prefix / "usr/bin", prefix / "usr/sbin"), settings, prefix)


def daemons_version() -> tuple[int, ...]:
    """The version of the HTCondor that is first on PATH."""
    return version_of(subprocess.run(["condor_version"], capture_output=True, text=True).stdout)


def version_of(text: str) -> tuple[int, ...]:
    match = re.search(r"CondorVersion: (\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else ()


def minor_version(python: Path) -> tuple[int, int] | None:
    """The version of an interpreter, as far as functions depend on it."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
        major, minor = done.stdout.split()
    except (OSError, ValueError):
        return None
    return int(major), int(minor)


def job_python() -> Path:
    """The python3 that jobs are to find: the system's where it has this Python's version.

    Functions do not travel between minor versions. Elsewhere it is the interpreter that this
    environment was made from, without the environment.
    """
    here = sys.version_info[:2]
    system = Path("/usr/bin/python3")
    if minor_version(system) == here:
        return system
    bare = Path(sys.base_prefix) / "bin" / f"python{here[0]}.{here[1]}"
    if minor_version(bare) == here:
        return bare
    raise PoolError(
        f"The tests run Python {here[0]}.{here[1]}, and neither {system} nor {bare} is of that "
        "version, so jobs could not read what is sent to them.\n"
        "Make the environment with the system's python3:  rm -r .venv; make test "
        "PYTHON=/usr/bin/python3"
    )


# --- Waiting and ending -----------------------------------------------------------------


def wait_until(
    condition: Callable[[], Any], timeout: float = 200, what: str | None = None, pause: float = 0.1
) -> Any:
    """Wait for `condition()` to be true, and return what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            name = what or getattr(condition, "__name__", repr(condition))
            raise TimeoutError(f"not within {timeout:g} s: {name}")
        time.sleep(pause)


def processes_of(area: Path) -> list[int]:
    """The processes that were started for a pool in `area`.

    They are known by their environment: daemons have CONDOR_CONFIG there, jobs their scratch
    folder, and DAGMan both.
    """
    mark = f"={area}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            # A person's shell in that folder is not ours.
            marked = [one for one in variables if mark in one]
            if any(not one.startswith((b"PWD=", b"OLDPWD=")) for one in marked):
                found.append(int(entry.name))
    return found


def clear(area: Path) -> None:
    """End what still runs for `area`, and remove it."""
    for _ in range(50):
        left = processes_of(area)
        if not left:
            break
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(area, ignore_errors=True)


def sweep() -> None:
    """Clear what sessions left that were killed together with their watcher."""
    for area in AREAS.glob(AREA_NAME + "*"):
        with contextlib.suppress(OSError):
            handle = os.open(area, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(handle).st_uid == os.getuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    clear(area)
            finally:
                os.close(handle)


def locked_folder() -> tuple[Path, int]:
    """A new area, and the lock by which other sessions know that it is in use.

    The lock lasts as long as this process. It is taken before the folder has its name, so
    that no session that starts just now takes the folder for a leftover.
    """
    made = Path(tempfile.mkdtemp(prefix="." + AREA_NAME, dir=AREAS))
    lock = os.open(made, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return made.rename(made.with_name(made.name[1:])), lock


def watch(area: Path, parent: int) -> None:
    """Wait until the tests have ended, in whatever way, and clear `area` behind them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin], [], [], 0.5)
        if ready:
            break
    clear(area)


class Area:
    """The folder of one test session: its pools and its run directories."""

    def __init__(self) -> None:
        sweep()
        self.path, self._lock = locked_folder()
        self.runs = self.path / "runs"
        self.runs.mkdir()
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", __file__, str(self.path), str(os.getpid())],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
        self._count = 0

    def new_runs_dir(self) -> Path:
        """A fresh folder with a blank and a letter beyond ASCII in its path."""
        self._count += 1
        path = self.runs / f"Läufe {self._count}"
        path.mkdir()
        return path

    def close(self) -> None:
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        # Not communicate(): the watcher says nothing, and ends when all is cleared.
        self._watcher.wait(timeout=200)
        os.close(self._lock)


# --- The pool ---------------------------------------------------------------------------


class Pool:
    """A running pool.

    `schedd` is its htcondor2.Schedd, `points` are its execute points, `version` is that of its
    daemons, such as (25, 14, 1).
    """

    points = POINTS

    def __init__(self, name: str, area: Area, settings: Mapping[str, str]) -> None:
        if os.getuid() == 0:
            raise PoolError(
                "HTCondor refuses jobs of root, and these tests run as root.\n"
                "Run them with:  tools/as-user .venv/bin/python -m pytest   (make test does)"
            )
        self.install = find_htcondor()
        self.python = job_python()
        # A process that comes back to a module has had its pool already.
        before = len(list(area.path.glob(f"{name}*")))
        self.folder = area.path / (f"{name}-{before + 1}" if before else name)
        self._area = area
        self._blind: subprocess.Popen[bytes] | None = None
        with self._environment(self._bare_config()):
            # The bindings read the configuration when they are imported, so only now.
            import htcondor2
            from htcondor2.personal import PersonalPool

            self._htcondor = htcondor2
            htcondor2.reload_config()
            self.version = daemons_version()
            config = {**self.install.settings, **COMMON, **settings}
            if self.version < version_of(htcondor2.version()):
                config |= OLDER_DAEMONS
            self._personal = PersonalPool(
                local_dir=self.folder / "seeing",
                config=config,
                raw_config=self._steering("seeing", first=True),
                use_config=False,
            )
            try:
                self._start()
            except BaseException:
                self.stop()
                raise

    # Settings and environment

    def _bare_config(self) -> str | None:
        prefix = self.install.prefix
        return str(prefix / "condor_config") if prefix else os.environ.get("CONDOR_CONFIG")

    @contextlib.contextmanager
    def _environment(self, config: str | None) -> Iterator[None]:
        """HTCondor's programs on PATH, and `config` its configuration."""
        saved = {name: os.environ.get(name) for name in ("PATH", "CONDOR_CONFIG")}
        words = [*map(str, self.install.path), os.environ.get("PATH", os.defpath)]
        os.environ["PATH"] = os.pathsep.join(words)
        if config is not None:
            os.environ["CONDOR_CONFIG"] = config
        try:
            yield
        finally:
            for name, value in saved.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @contextlib.contextmanager
    def use(self) -> Iterator[Pool]:
        """Make this pool the one that htcondor2 and HTCondor's commands find."""
        with self._environment(str(self._personal.config_file)):
            self._htcondor.reload_config()
            yield self

    def _steering(self, point: str, *, first: bool = False) -> str:
        """Settings of one point that may change while it runs, and its jobs' environment."""
        file = self.folder / f"{point}.start"
        if first:
            self.folder.mkdir(parents=True)
        file.write_text("START = True\n")
        lines = [f"include : {file}"]
        path = self._job_path()
        # The seeing point leaves PATH to HTCondor where that leads to the right python3.
        if point == "blind" or path.startswith(str(self.folder)):
            lines.append(f'STARTER_JOB_ENVIRONMENT = "PATH={path}"')
        return "\n".join(lines) + "\n"

    def _job_path(self) -> str:
        if self.python == Path("/usr/bin/python3") and not Path("/usr/local/bin/python3").exists():
            return "/usr/local/bin:/usr/bin:/bin"
        folder = self.folder / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "python3"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(self.python))} "$@"\n')
        script.chmod(0o755)
        return f"{folder}:/usr/local/bin:/usr/bin:/bin"

    # Start and stop

    def _start(self) -> None:
        self._personal.start()
        with self.use():
            self.schedd = self._personal.schedd
            self._collector = self._personal.collector
            try:
                self._slots()
            except self._htcondor.HTCondorException as error:
                raise PoolError(self._why_no_answer(error)) from None
            self._blind = self._start_blind()
            try:
                wait_until(self._all_there, 200, "both execute points in the pool")
            except TimeoutError:
                raise PoolError(self._why_not_blind()) from None

    def _start_blind(self) -> subprocess.Popen[bytes]:
        folder = self.folder / "blind"
        for name in ("execute", "lock", "log", "run", "spool"):
            (folder / name).mkdir(parents=True)
        log = Path(self._personal.get_config_val("LOG"))
        address = (log / ".collector_address").read_text().splitlines()[0]
        own = {
            "LOCAL_DIR": str(folder),
            **{name.upper(): str(folder / name) for name in ("execute", "lock", "log", "run")},
            "SPOOL": str(folder / "spool"),
            "DAEMON_LIST": "MASTER, STARTD",
            "COLLECTOR_HOST": address,
            "STARTD_NAME": "blind",
            "FILESYSTEM_DOMAIN": BLIND_DOMAIN,
        }
        config = folder / "condor_config"
        text = self._personal.config_file.read_text()
        text = text.replace(f"include : {self.folder}/seeing.start\n", "")
        text += "".join(f"{name} = {value}\n" for name, value in own.items())
        config.write_text(text + self._steering("blind"))
        script = folder / "start"
        script.write_text(self._blind_script())
        master = shutil.which("condor_master")
        with (folder / "start.log").open("wb") as output:
            return subprocess.Popen(
                ["unshare", "-U", "-r", "-m", "--", "/bin/sh", str(script), str(master)],
                env={**os.environ, "CONDOR_CONFIG": str(config)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _blind_script(self) -> str:
        """Cover what the blind point must not see, then become its condor_master."""
        lines = ["set -e"]
        hidden = self.hidden()
        kept = [path for path in self.kept() if any(path.is_relative_to(one) for one in hidden)]
        aside = [shlex.quote(f"{self.folder}/kept-{number}") for number in range(len(kept))]
        for path, place in zip(kept, aside, strict=True):
            lines += [f"mkdir {place}", f"mount --bind {shlex.quote(str(path))} {place}"]
        lines += [f"mount -t tmpfs none {shlex.quote(str(path))}" for path in hidden]
        for path, place in zip(kept, aside, strict=True):
            there = shlex.quote(str(path))
            lines += [f"mkdir -p {there}", f"mount --move {place} {there}"]
        ids = f"--map-user={os.getuid()} --map-group={os.getgid()}"
        lines.append(f'exec unshare -U {ids} -- "$1" -f')
        return "\n".join(lines) + "\n"

    def kept(self) -> list[Path]:
        """What stays in sight even inside a hidden folder: HTCondor, Apptainer, jobs' Python."""
        paths = [self.install.prefix] if self.install.prefix else []
        if APPTAINER.is_dir():
            paths.append(APPTAINER)
        if self.python.is_relative_to(sys.base_prefix):
            paths.append(Path(sys.base_prefix).resolve())
        return paths

    def hidden(self) -> list[Path]:
        """The folders that are empty on the blind point, none inside another."""
        homes = [Path("/home"), Path("/root"), Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir)]
        places = [PROJECT, Path(sys.prefix), self._area.runs, self.folder / "seeing", *homes]
        if not self.python.is_relative_to(sys.base_prefix):
            places.append(Path(sys.base_prefix))
        # A service user's home may be / or /bin, and Python's folder /usr: jobs need those.
        system = {Path(name) for name in ("/", "/usr", "/usr/local", "/bin", "/usr/bin", "/sbin")}
        system |= {Path(name) for name in ("/usr/sbin", "/etc", "/dev", "/proc", "/var", "/tmp")}
        found = {path.resolve() for path in places if path.is_dir()} - system
        outer = [path for path in found if not found.intersection(path.parents)]
        return sorted(outer)

    def _why_no_answer(self, error: Exception) -> str:
        daemons = self._personal.run_command(["condor_version"]).stdout.partition("\n")[0]
        return (
            f"The pool started, but the bindings cannot talk to it: {error}\n"
            f"Its version is {daemons}, theirs {self._htcondor.version()}.\n"
            "Newer bindings refuse the login of much older daemons: install bindings of about "
            "the daemons' version, or newer daemons with tools/get-htcondor."
        )

    def _why_not_blind(self) -> str:
        said = (self.folder / "blind/start.log").read_text(errors="replace").strip()
        return (
            "The execute point `blind` did not join the pool. It needs user namespaces.\n"
            f"It said: {said or 'nothing'}\n"
            "On Ubuntu 24.04 and later, as administrator:  "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )

    def _all_there(self) -> bool:
        return {self._point(slot["Name"]) for slot in self._slots()} == set(POINTS)

    def stop(self) -> None:
        """Stop both points; what does not listen is ended with the session's area."""
        if hasattr(self, "schedd"):
            with contextlib.suppress(Exception), self.use():
                self.schedd.act(self._htcondor.JobAction.Remove, "true")
        masters = [self._blind, self._personal.condor_master]
        running = [one for one in masters if one is not None and one.poll() is None]
        for master in running:
            master.send_signal(signal.SIGQUIT)  # the fast way down
        for master in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                master.wait(timeout=20)
        for master in running:
            if master.poll() is None:
                master.kill()
                master.wait()
            for pipe in (master.stdout, master.stderr):
                if pipe is not None:
                    pipe.close()
        # It has nothing to stop any more, and now knows.
        with self._environment(str(self._personal.config_file)):
            self._personal.stop()

    # What tests ask

    wait_until = staticmethod(wait_until)

    @staticmethod
    def _point(slot: str) -> str:
        """The execute point of a slot's name, such as slot1_3@blind@machine."""
        return slot.split("@")[1]

    def _slots(self, names: tuple[str, ...] = ("Name", "Start", "FileSystemDomain")) -> list[Any]:
        kind = self._htcondor.AdType.Startd
        return list(self._collector.query(kind, "PartitionableSlot", list(names)))

    @contextlib.contextmanager
    def only(self, point: str, *, pretends: bool = False) -> Iterator[None]:
        """Inside, new jobs start on `point` only; jobs that run elsewhere go on.

        With `pretends` the blind point says that it shares files with the submit side.
        """
        if point not in POINTS:
            raise ValueError(f"{point!r} is none of {', '.join(POINTS)}")
        self._steer({name: name == point for name in POINTS}, pretends)
        try:
            yield
        finally:
            self._steer(dict.fromkeys(POINTS, True))

    def _steer(self, start: Mapping[str, bool], pretends: bool = False) -> None:
        domains = dict.fromkeys(POINTS, COMMON["FILESYSTEM_DOMAIN"])
        if not pretends:
            domains["blind"] = BLIND_DOMAIN
        for name, master in (("seeing", self._personal.condor_master), ("blind", self._blind)):
            file = self.folder / f"{name}.start"
            aside = file.with_suffix(".new")
            aside.write_text(f"START = {start[name]}\nFILESYSTEM_DOMAIN = {domains[name]}\n")
            aside.replace(file)
            assert master is not None
            master.send_signal(signal.SIGHUP)  # read the settings again

        def steered() -> bool:
            ads = {self._point(slot["Name"]): slot for slot in self._slots()}
            shared = {name: ad["FileSystemDomain"] for name, ad in ads.items()}
            return {name: ad.eval("Start") for name, ad in ads.items()} == dict(start) and (
                shared == domains
            )

        wait_until(steered, 200, f"the execute points to take jobs as in {dict(start)}")

    def job_ads(self, constraint: str = "true", projection: list[str] | None = None) -> list[Any]:
        """The jobs in the queue and those that left it, oldest first."""
        wanted = projection or []
        if wanted:
            wanted = [*wanted, "ClusterId", "ProcId", "LastRemoteHost", "RemoteHost"]
        ads = list(self.schedd.query(constraint, wanted))
        ads += list(self.schedd.history(constraint, wanted))
        return sorted(ads, key=lambda ad: (ad["ClusterId"], ad["ProcId"]))

    def where(self, constraint: str = "true") -> Counter[str]:
        """How many of the vanilla jobs ran on each point (on the last one, if on several)."""
        ads = self.job_ads(f"JobUniverse == 5 && ({constraint})", ["JobStatus"])
        hosts = [ad.get("RemoteHost") or ad.get("LastRemoteHost") for ad in ads]
        return Counter(self._point(host) for host in hosts if host)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]))
