"""The user's own pool: start, inspect and stop it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from htdag.backends.condor import abilities, pool_config
from htdag.backends.condor.pool_install import Install, find
from htdag.backends.condor.pool_state import PoolState, answer, end_orphans
from htdag.backends.condor.setup import POOL_FILE, Setup
from htdag.backends.local import cores
from htdag.config.directories import pool_directory
from htdag.errors import BackendError, DirectoryError, UsageError
from htdag.runtime import layout

if TYPE_CHECKING:
    import psutil

# psutil, filelock and the bindings are slow to import, and needed only if there is a pool.

_PID_FILE, _LOCK_FILE, _START_OUTPUT = "master.pid", "start.lock", "start.out"
_START_TIMEOUT = 60.0  # seconds until a pool must answer
_STOP_TIMEOUT = 30.0  # seconds for an orderly end
_PAUSE = 0.1
_TAIL = 12


class _PoolFile(TypedDict, total=False):
    """``pool.json``: how a pool was started; nothing of one that never was."""

    prefix: str | None
    """The folder of its HTCondor; None for that on PATH."""
    programs: Sequence[str]
    """The folders of its programs."""
    cpus: int
    """Its CPUs."""
    memory: int | None
    """Its memory in MB; None for that of the machine."""


class OwnPool:
    """The HTCondor pool of one user on this machine.

    Parameters
    ----------
    directory : pathlib.Path, optional
        Its directory; by default next to that of the runs.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.path = pool_directory() if directory is None else directory
        self.config = self.path / pool_config.CONFIG

    @property
    def setup(self) -> Setup:
        """The setup that selects it."""
        return Setup(str(self.config), tuple(self._known().get("programs", ())), own=True)

    @property
    def is_running(self) -> bool:
        """Whether its condor_master is running."""
        return self._master() is not None

    # State

    def state(self) -> PoolState:
        """Return its state."""
        master = self._master()
        setup = self.setup
        base = PoolState(
            False, False, str(self.path), str(self.config), programs=setup.programs
        ).__dict__
        if master is None:
            return PoolState(**base)
        began = datetime.fromtimestamp(master.create_time()).astimezone()
        base |= {"running": True, "pid": master.pid, "since": began.isoformat(timespec="seconds")}
        try:
            facts = answer(setup)
        except BackendError as error:
            return PoolState(**base | {"problem": str(error)})
        return PoolState(**base | {"answers": True} | facts)

    # Start

    def start(
        self,
        prefix: str | None = None,
        cpus: int | None = None,
        memory: int | None = None,
        notify: Callable[[str], None] = lambda text: None,
    ) -> bool:
        """Start it, and wait until its schedd and its slot answer.

        Parameters
        ----------
        prefix : str, optional
            The folder of an HTCondor; it is remembered.
        cpus : int, optional
            How many jobs of one CPU run at once; by default as many as this process may use.
        memory : int, optional
            Memory for jobs, in MB; by default all of the machine.
        notify : callable
            Called with a text if the start takes long.

        Returns
        -------
        bool
            False if it was running already.

        Raises
        ------
        BackendError
            If it does not start; the error has the last lines of the log that may show why.
        UsageError
            If it is running with another size, or there is no HTCondor in the given folder.
        """
        if os.getuid() == 0:
            raise BackendError(
                "HTCondor refuses the jobs of root: start the pool as an ordinary user"
            )
        self._make_directory()
        with self._lock(notify):
            running = self._master() is not None
            if running:
                self._check_size(cpus, memory)
            else:
                install = find(prefix, self._known().get("prefix"))
                end_orphans(str(self.config))
                self._write(install, cpus or cores(), memory)
                self._launch(install)
            self._wait(notify)
        return not running

    def _make_directory(self) -> None:
        real = os.path.realpath(self.path)
        if real.startswith("/tmp/"):
            raise DirectoryError(
                f"{str(self.path)!r} is under /tmp, which a machine may clear at any time, and the "
                f"pool's queue with it; choose a folder that lasts, in HTDAG_HOME"
            )
        pool_config.check_directory(str(self.path))
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.stat().st_uid != os.getuid():
            raise DirectoryError(f"{str(self.path)!r} belongs to another user")
        self.path.chmod(0o700)
        for name in pool_config.FOLDERS:
            (self.path / name).mkdir(mode=0o700, exist_ok=True)

    def _check_size(self, cpus: int | None, memory: int | None) -> None:
        settings = self._known()
        for name, value in (("cpus", cpus), ("memory", memory)):
            if value is not None and value != settings.get(name):
                now = settings.get(name) or "all"
                raise UsageError(
                    f"the pool is running with --{name} {now}; to change that, "
                    f"first: htdag pool stop"
                )

    def _write(self, install: Install, cpus: int, memory: int | None) -> None:
        path = pool_config.job_path(sys.executable, os.environ.get("PATH", os.defpath))
        text = pool_config.pool_config(
            self.path, install.places, cpus, memory, path, older=_is_older(install)
        )
        layout.write_aside(str(self.config), text.encode())
        activate = pool_config.activate_script(self.path, install.programs)
        layout.write_aside(str(self.path / pool_config.ACTIVATE), activate.encode())
        settings: _PoolFile = {
            "prefix": install.prefix,
            "programs": install.programs,
            "cpus": cpus,
            "memory": memory,
        }
        layout.write_aside(str(self.path / POOL_FILE), json.dumps(settings, indent=1).encode())

    def _launch(self, install: Install) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.path / _PID_FILE).unlink()
        with open(self.path / _START_OUTPUT, "wb") as output:
            # condor_master detaches itself, into a session of its own.
            done = subprocess.run(
                [install.master, "-pidfile", str(self.path / _PID_FILE)],
                cwd=self.path,
                env=self.setup.variables(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        if done.returncode != 0:
            raise BackendError(
                f"condor_master did not start (status {done.returncode}):\n"
                + _tail(self.path / _START_OUTPUT)
            )

    def _wait(self, notify: Callable[[str], None]) -> None:
        start = time.monotonic()
        seen = notified = False
        while True:
            waited = time.monotonic() - start
            seen = seen or self._master() is not None
            problem = ""
            try:
                answer(self.setup)
            except BackendError as error:
                problem = str(error)
            if seen and not problem:
                return
            if self._master() is None and (seen or waited > _START_TIMEOUT / 6):
                raise BackendError(
                    f"the pool did not start: {self._why('its condor_master ended')}"
                )
            if waited > _START_TIMEOUT:
                why = self._why(problem)
                self._end()
                raise BackendError(f"the pool did not start in {_START_TIMEOUT:g} s: {why}")
            if waited > 5 and not notified:
                notified = True
                notify(f"waiting for the pool: {problem}")
            time.sleep(_PAUSE)

    def _why(self, problem: str) -> str:
        """Return a problem, with the end of the log that is most likely to explain it."""
        name = "StartLog" if "slot" in problem else "SchedLog" if "schedd" in problem else ""
        logs = [self.path / "log" / one for one in (name, "MasterLog") if one]
        logs.append(self.path / _START_OUTPUT)
        for log in logs:
            text = _tail(log)
            if text:
                return f"{problem}. {log} ends with:\n{text}"
        return f"{problem}. There is no log in {str(self.path / 'log')!r}"

    # Stop

    def stop(self, notify: Callable[[str], None] = lambda text: None) -> bool:
        """Stop it; its queue is kept for the next start.

        Returns
        -------
        bool
            False if it was not running.
        """
        if not self.path.is_dir():
            return False
        with self._lock(notify):
            return self._end()

    def _end(self) -> bool:
        import psutil

        master = self._master()
        if master is None:
            return False
        with contextlib.suppress(psutil.Error):
            family = [master, *master.children(recursive=True)]
            # The graceful shutdown ends jobs and keeps them in the queue for the next start. After
            # the fast one (SIGQUIT), the next schedd would try long to reconnect to them.
            master.send_signal(signal.SIGTERM)
            _, alive = psutil.wait_procs(family, timeout=_STOP_TIMEOUT)
            if master in alive:
                master.send_signal(signal.SIGQUIT)
                _, alive = psutil.wait_procs(alive, timeout=_STOP_TIMEOUT)
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(alive, timeout=_STOP_TIMEOUT)
        if self._master() is not None:
            raise BackendError(f"process {master.pid}, the pool's condor_master, does not end")
        return True

    # Internals

    def _master(self) -> psutil.Process | None:
        """Return the process of condor_master, if it is running.

        The id in its file may be that of another process by now. But condor_master holds a lock on
        a file of this pool as long as it lives.
        """
        if not self._is_locked():
            return None
        try:
            pid = int((self.path / _PID_FILE).read_text())
        except (OSError, ValueError):
            return None
        import psutil

        try:
            process = psutil.Process(pid)
            is_master = process.name().startswith("condor_master") and process.is_running()
        except psutil.Error:
            return None
        return process if is_master else None

    def _is_locked(self) -> bool:
        try:
            lock = os.open(self.path / "lock" / "InstanceLock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def _known(self) -> _PoolFile:
        try:
            content: _PoolFile = json.loads((self.path / POOL_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return content

    @contextlib.contextmanager
    def _lock(self, notify: Callable[[str], None]) -> Iterator[None]:
        """Let one process at a time start or stop the pool."""
        import filelock

        lock = filelock.FileLock(self.path / _LOCK_FILE)
        try:
            lock.acquire(timeout=0.2)
        except filelock.Timeout:
            notify("another process starts or stops the pool; waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _is_older(install: Install) -> bool:
    """Return whether an HTCondor is older than the bindings."""
    from htdag.backends.condor.bindings import htcondor2, version_number

    # Other programs, such as the daemons, have their version in a library.
    program = shutil.which("condor_dagman", path=os.pathsep.join(install.programs))
    installed = None if program is None else abilities.version(Path(program))
    bindings = tuple(int(part) for part in version_number(htcondor2.version()).split("."))
    return installed is not None and installed < bindings


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(f"  {line}" for line in lines[-_TAIL:])
