"""Placeholders in a job for objects of the user's that are missing there."""

from __future__ import annotations

from typing import Any


class Absent:
    """A placeholder for something that is missing in a job: using it raises the reason."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        object.__setattr__(self, "_error", error)

    def __repr__(self) -> str:
        return "<not in this job: %s>" % (object.__getattribute__(self, "_error"),)

    __hash__ = object.__hash__


def _use(self: Any, *_: Any, **__: Any) -> Any:
    raise object.__getattribute__(self, "_error").with_traceback(None)


_METHODS = """
getattr setattr delattr call getitem setitem delitem iter next len contains enter exit bool int
float complex index str bytes format eq ne lt le gt ge add radd sub rsub mul rmul truediv rtruediv
floordiv rfloordiv mod rmod pow rpow and rand or ror xor rxor matmul rmatmul neg pos abs invert
await aiter anext aenter aexit reduce_ex fspath
"""
for _method in _METHODS.split():
    setattr(Absent, "__%s__" % _method, _use)
