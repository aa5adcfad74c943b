"""Checks of values that functions return, before they leave the job."""

from __future__ import annotations

import os
from typing import Any

from ..data.frames import Pickled
from ..errors import StageError
from ..files import input_files

MISSING = object()


def check_lasts(path: Any) -> None:
    """Refuse the plain path of a file in a directory that is removed after the job."""
    if hasattr(path, "_reference"):  # it travels
        return
    where, here = os.path.realpath(path), os.path.realpath(os.curdir)
    made = where.startswith(here + os.sep) and os.path.exists(where)
    if made and not input_files.is_input(where):
        raise StageError(
            "the result is the path %r of a file in the working directory of the job, which is "
            "removed when the job ends; return htdag.OutputFile(%r), and the file comes back"
            % (os.fspath(path), os.fspath(path))
        )


HINTS = {
    "generator": "; return a list, or use flat_map to make an item of each of its elements",
    "coroutine": "; call asyncio.run inside of the function, and return what that returns",
}


def in_one_piece(pickled: Pickled, value: Any) -> Pickled:
    """Return a pickle that includes its buffers."""
    if not pickled.buffers:
        return pickled
    from ..code import pickling

    return Pickled(pickling.dumps(value), (), pickled.files)


def truth(kept: Any) -> bool:
    """Return the truth of what a predicate returned; raise `StageError` if it has none."""
    if hasattr(kept, "__await__") or type(kept).__name__ in ("generator", "async_generator"):
        close = getattr(kept, "close", None)
        if close is not None:
            close()
        raise StageError(
            "the predicate returned a %s, which has not run yet and says nothing about the "
            "item; return True or False" % type(kept).__name__
        )
    try:
        return bool(kept)
    except Exception as error:
        raise StageError(
            "the predicate returned a %s, which is neither true nor false (%s: %s); return True "
            "or False, for an array by .any() or .all()"
            % (type(kept).__name__, type(error).__name__, error)
        ) from error
