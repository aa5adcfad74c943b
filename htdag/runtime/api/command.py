"""Programs as functions of the item."""

from __future__ import annotations

import numbers
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from . import shim
from .shim import public
from .template import FieldError, Fields, Words, filled_name, filled_words, name_fields, parsed

_TAIL = 4000  # bytes of the standard error that an error quotes
_RETURNS = ("file", "text", "bytes", "stdout", "status")


@public
class CommandError(Exception):
    """A program could not be run, or failed.

    Attributes
    ----------
    arguments : tuple of str
        The program and its arguments.
    status : int or None
        Its exit status, negative for a signal; None if it did not start or took too long.
    stderr : str
        The end of what it wrote to its standard error.
    """

    def __init__(
        self, message: str, arguments: Words = (), status: Optional[int] = None, stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.arguments = arguments
        self.status = status
        self.stderr = stderr

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.arguments, self.status, self.stderr)


@public
class Command:
    """A program to be called like a function; made by `command`."""

    def __init__(
        self,
        template: Union[str, Words],
        returns: Any,
        output: str,
        ok_exit: Tuple[int, ...],
        environment: Dict[str, str],
        timeout: Optional[float],
        values: Dict[str, Any],
    ) -> None:
        self.template = template
        self.returns = returns
        self.output = output
        self.ok_exit = ok_exit
        self.environment = environment
        self.timeout = timeout
        self.values = values
        word = template.split()[0] if isinstance(template, str) else template[0]
        self.__name__ = os.path.basename(word)

    def __repr__(self) -> str:
        text = self.template if isinstance(self.template, str) else shlex.join(self.template)
        return "htdag.command(%r)" % text

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the program for an item, and return the requested result."""
        folder = tempfile.mkdtemp(
            prefix="htdag-command-", dir=os.environ.get("_CONDOR_SCRATCH_DIR")
        )
        try:
            fields = Fields(arguments, {**self.values, **keywords})
            try:
                path = fields.path = os.path.join(folder, filled_name(self.output, fields))
                words = filled_words(self.template, fields)
            except FieldError as error:
                raise CommandError("%r: %s" % (self, error)) from None
            status, stdout = self._run(words)
            if self.returns == "stdout":
                return stdout.decode(errors="replace")
            if self.returns == "status":
                return status
            if not os.path.exists(path):
                raise CommandError(
                    "%s succeeded, but did not write its {output}, %r" % (words[0], path), words
                )
            return self._result(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _result(self, path: str) -> Any:
        if self.returns == "file":
            return shim.named("OutputFile")(path)
        if callable(self.returns):
            return self.returns(path)
        with open(path, "rb") as file:
            content = file.read()
        return content.decode() if self.returns == "text" else content

    def _run(self, words: Words) -> Tuple[int, bytes]:
        """Run the program; its streams go to those of the item, unless they are the result."""
        environment = {**os.environ, **self.environment}
        captures = self.returns == "stdout"
        sys.stdout.flush()
        sys.stderr.flush()
        me = os.getpid()

        from ..process import die_with_parent  # not between fork and exec

        def begin() -> None:
            os.setpgid(0, 0)  # so that what it starts can be ended with it
            die_with_parent(me)

        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if captures else None,
                stderr=subprocess.PIPE,
                env=environment,
                preexec_fn=begin,
            )
        except OSError as error:
            raise CommandError(_not_started(words[0], environment, error), words) from None
        tail = _Tail(process.stderr)
        chunks: List[bytes] = []

        def read(stream: Any) -> None:
            with stream:
                chunks.append(stream.read())

        reader = threading.Thread(target=read, args=(process.stdout,))
        if captures:
            reader.start()
        try:
            status = process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if captures:
                reader.join()
            tail.join()
        if captures and status not in self.ok_exit:
            _write_all(sys.stdout, b"".join(chunks))
        if status is None:
            raise CommandError(
                "%s took longer than its timeout of %g s" % (words[0], self.timeout or 0),
                words,
                None,
                tail.text(),
            )
        if status not in self.ok_exit:
            raise CommandError(_ended(words, status, tail.text()), words, status, tail.text())
        return status, chunks[0] if chunks else b""


class _Tail(threading.Thread):
    """A thread that passes a program's standard error on and keeps its end."""

    def __init__(self, stream: Any) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._kept = b""
        self.start()

    def run(self) -> None:
        while True:
            piece = os.read(self._stream.fileno(), 65536)
            if not piece:
                break
            self._kept = (self._kept + piece)[-_TAIL:]
            sys.stderr.flush()
            _write_all(sys.stderr, piece)
        self._stream.close()

    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()


def _write_all(stream: Any, piece: bytes) -> None:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # a notebook's, or what stands for it in a test
        stream.write(piece.decode(errors="replace"))
    else:
        buffer.write(piece)
        buffer.flush()


def _not_started(program: str, environment: Mapping[str, str], error: OSError) -> str:
    host = os.uname().nodename
    if isinstance(error, FileNotFoundError):
        where = "" if "/" in program else ": PATH=" + environment.get("PATH", os.defpath)
        return (
            "there is no program %r on %s%s. Choose execute points that have it (requirements), "
            "or add it to the environment or to input_files" % (program, host, where)
        )
    return "the program %r cannot be run on %s: %s" % (program, host, error.strerror or error)


def _ended(words: Words, status: int, stderr: str) -> str:
    shown = shlex.join(words)
    shown = shown if len(shown) <= 1000 else shown[:1000] + " ..."
    if status < 0:
        try:
            how = "was killed by %s" % signal.Signals(-status).name
        except ValueError:
            how = "was killed by signal %d" % -status
    else:
        how = "ended with exit status %d" % status
    said = "\nIts standard error ends with:\n" + stderr if stderr else ""
    return "%s %s: %s%s" % (words[0], how, shown, said)


@public
def command(
    template: Union[str, Sequence[str]],
    *,
    returns: Any = None,
    output: str = "output",
    ok_exit: Sequence[int] = (0,),
    env: Optional[Mapping[str, Any]] = None,
    timeout: Any = None,
    shell: bool = False,
    **values: Any,
) -> Command:
    """Make a function from a program, like `htdag.command`; raise `ValueError` for mistakes."""
    words, fields = parsed(template, shell)
    writes = "output" in fields
    if returns is None:
        returns = "file" if writes else "stdout"
    if not callable(returns) and returns not in _RETURNS:
        raise ValueError(
            "returns=%r is neither one of %s nor a function"
            % (returns, ", ".join(map(repr, _RETURNS)))
        )
    if not writes and returns not in ("stdout", "status"):
        raise ValueError("returns=%r needs {output} in the template" % (returns,))
    unused = sorted(set(values) - set(fields) - set(name_fields(output)))
    if unused:
        raise ValueError("%s is in no field of the template" % ", ".join(unused))
    seconds = timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout
    if seconds is not None:
        if not isinstance(seconds, numbers.Real) or not float(seconds) > 0:
            raise ValueError("timeout=%r is not a number of seconds" % (timeout,))
        seconds = float(seconds)
    environment = {name: str(value) for name, value in (env or {}).items()}
    return Command(
        words, returns, output, tuple(map(int, ok_exit)), environment, seconds, dict(values)
    )
