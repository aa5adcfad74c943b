"""Programs as functions of the item: `command`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from htdag.checks import validation
from htdag.checks.quantities import whole
from htdag.errors import UsageError
from htdag.runtime.api import command as commands
from htdag.runtime.api.command import Command
from htdag.runtime.api.shim import public


@public
def command(
    template: str | Sequence[str],
    *,
    returns: str | Callable[[str], Any] | None = None,
    output: str = "output",
    ok_exit: Sequence[int] = (0,),
    env: Mapping[str, str] | None = None,
    timeout: float | timedelta | None = None,
    shell: bool = False,
    **values: Any,
) -> Command:
    """Make a function from an external program, for `map` and other stages.

    The program runs once for each item, without a shell: each value is one argument, whatever
    characters it has. Its output is that of the item. It has to be installed on the execute point,
    or travel there.

    Parameters
    ----------
    template : str or sequence of str
        The program and its arguments: words as for a shell, or a list of them. Fields in braces
        stand for values: ``{input}`` is the item (a string, number or path), ``{output}`` a path
        to which the program should write its result, ``{0}``, ``{1}`` are elements of an item that
        is a tuple or list, ``{name}`` is one of `values`, a bound result, or an entry or attribute
        of the item. A list or tuple that is a word by itself becomes several arguments. Double a
        literal brace.
    returns : str or callable, optional
        What a call returns: ``"file"``, the file ``{output}``, which travels; ``"text"`` or
        ``"bytes"``, its content; ``"stdout"``, the program's standard output; ``"status"``, its
        exit status; or the value of a function that is called with the path of the output. By
        default ``"file"`` if the template has ``{output}``, else ``"stdout"``.
    output : str
        The name of the file ``{output}``, since many programs depend on its suffix. It may have any
        field except ``{output}``, such as ``"{stem}.bam"``. Each call has its own folder for it.
    ok_exit : sequence of int
        The exit statuses that do not mean a failure.
    env : mapping of str to str, optional
        Additional environment variables.
    timeout : float or datetime.timedelta, optional
        How many seconds a call may take; by default there is no limit.
    shell : bool
        Run the template with ``/bin/sh``, with pipes and redirections. Values are quoted, so fields
        must not be in quotes.
    **values
        Values for fields, the same for all items.

    Returns
    -------
    Command
        A function of the item. A call raises `CommandError` if there is no such program, or if it
        ends with another exit status; the error has the end of its standard error.

    Raises
    ------
    UsageError
        If the template is not valid, or an option has a wrong value.

    Examples
    --------
    >>> import htdag
    >>> count = htdag.command(["sh", "-c", 'echo "$0" | wc -c', "{input}"])
    >>> count("four").strip()
    '5'
    >>> hits = htdag.command("blastn -query {input} -db {db} -out {output}", db="nt")
    >>> genes = htdag.source(["gene1.fasta", "gene2.fasta"]).map(hits)
    """
    _check_types(template, returns, output, ok_exit, env)
    try:
        return commands.command(
            template,
            returns=returns,
            output=output,
            ok_exit=ok_exit,
            env=env,
            timeout=timeout,
            shell=shell,
            **values,
        )
    except ValueError as error:
        raise UsageError(f"htdag.command: {error}") from None


def _check_types(template: Any, returns: Any, output: Any, ok_exit: Any, env: Any) -> None:
    """Raise `UsageError` for arguments of wrong types."""

    def refuse(what: str, value: Any, takes: str) -> NoReturn:
        raise UsageError(f"htdag.command: {what}={validation.shown(value)}: it takes {takes}")

    if not isinstance(template, str | list | tuple):
        refuse("template", template, "a text, or a list of words")
    if returns is not None and not isinstance(returns, str) and not callable(returns):
        refuse("returns", returns, "a text or a function")
    if not isinstance(output, str):
        refuse("output", output, "the name of a file")
    if not isinstance(ok_exit, Collection) or None in map(whole, ok_exit):
        refuse("ok_exit", ok_exit, "a list of whole numbers")
    if env is not None and not isinstance(env, Mapping):
        refuse("env", env, "a dict of name to value")
