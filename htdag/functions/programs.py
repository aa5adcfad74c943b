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
    """Make a function of an external program, to be given to `map` and the like.

    The program is run once for each item, without a shell: each value is one argument, whatever
    signs are in it. What it prints is in the streams of the item. It has to be on the execute
    point, or travel there.

    Parameters
    ----------
    template : str or sequence of str
        The program and its arguments: words as for a shell, or a list of them. Fields in braces
        stand for values: ``{input}`` is the item (a text, number or path), ``{output}`` a path
        where the program is to write its result, ``{0}``, ``{1}`` are elements of an item that is
        a tuple or list, ``{name}`` is one of `values`, a bound result, or an entry or attribute of
        the item. A list or tuple that stands alone in a word gives several arguments. Double a
        brace that stands for itself.
    returns : str or callable, optional
        What a call returns: ``"file"``, the file ``{output}``, which travels; ``"text"`` or
        ``"bytes"``, its content; ``"stdout"``, what the program printed; ``"status"``, its exit
        status; or what a function returns that is called with the path of the output. By default
        ``"file"`` where the template has ``{output}``, else ``"stdout"``.
    output : str
        The name of the file ``{output}``, since many programs go by its suffix. It may have fields,
        such as ``"{stem}.bam"``, but for ``{output}``. Each call has a folder of its own for it.
    ok_exit : sequence of int
        The exit statuses that are none of a failure.
    env : mapping of str to str, optional
        Variables of the environment, added to those that there are.
    timeout : float or datetime.timedelta, optional
        How many seconds it may take; by default any number.
    shell : bool
        Run the template by ``/bin/sh``, with pipes and redirections. Values are quoted, so fields
        must not stand in quotes.
    **values
        Further values for fields, the same for all items.

    Returns
    -------
    Command
        A function of the item. A call of it raises `CommandError` where there is no such program,
        or it ends with another exit status, with the end of its standard error.

    Raises
    ------
    UsageError
        If the template cannot be read, or an option has a wrong value.

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
    """Refuse what could not even be looked at."""

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
