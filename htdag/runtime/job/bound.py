"""The values of bound stages, which each call of a function gets as they were bound.

An immutable value is handed out as it is. Of a small one each call gets a copy. A large one is
shared by the calls of a job, and checked now and then, at the latest before the job counts as done:
if a function has changed it, all that this job has computed is computed again, and then each call
gets a copy.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional

from ..data.frames import Pickled
from ..data.snapshot import is_immutable

_SMALL = 4096  # bytes of a pickle of which each call gets a copy
_SHARE = 20  # looking takes at most this part of the time
_GROWTH = 0.1  # and is done after this part of the time so far


class Bound:
    """One bound value.

    Parameters
    ----------
    value : object
        The value.
    dumps : callable
        Pickles a value.
    private : bool
        Give each call a copy, however large the value is.
    """

    def __init__(self, value: Any, dumps: Callable[[Any], Pickled], private: bool = False) -> None:
        self._value = value
        self._dumps = dumps
        self._pickled: Optional[Pickled] = None
        self._digest: Optional[bytes] = None
        if is_immutable(value):
            return
        pickled = dumps(value)
        size = len(pickled.payload) + sum(len(buffer) for buffer in pickled.buffers)
        if private or size <= _SMALL:
            self._pickled = Pickled(pickled.payload, tuple(map(bytes, pickled.buffers)))
            self._value = None
        else:
            self._digest = _digest(pickled)

    def fresh(self) -> Any:
        """Return the value for one call."""
        return self._value if self._pickled is None else self._pickled.load_copy()

    @property
    def is_shared(self) -> bool:
        """Whether several calls get the same object, which they could change."""
        return self._digest is not None

    def is_altered(self) -> bool:
        """Return whether a call has changed the shared object."""
        return self._digest is not None and _digest(self._dumps(self._value)) != self._digest


def _digest(pickled: Pickled) -> bytes:
    import hashlib  # it takes time, which jobs without large bound values need not spend

    hasher = hashlib.blake2b(pickled.payload, digest_size=16)
    for buffer in pickled.buffers:
        hasher.update(buffer)
    return hasher.digest()


class Altered(BaseException):
    """A function has changed a shared bound value."""


class BoundValues:
    """The bound values of a job, with checks of those that are shared.

    Parameters
    ----------
    values : dict
        The values by name.
    dumps : callable
        Pickles a value.
    private : bool
        Give each call copies.
    """

    def __init__(
        self, values: Dict[str, Any], dumps: Callable[[Any], Pickled], private: bool = False
    ) -> None:
        self.values = {name: Bound(value, dumps, private) for name, value in values.items()}
        self.shared: List[Bound] = [value for value in self.values.values() if value.is_shared]
        self._begun = time.monotonic()
        self._next = 0.0

    def look(self, due: bool = False) -> bool:
        """Check shared values if it is time, or if `due`; return whether that was done.

        Raises
        ------
        Altered
            If one was changed.
        """
        if not self.shared:
            return False
        begun = time.monotonic()
        if begun < self._next and not due:
            return False
        if any(value.is_altered() for value in self.shared):
            raise Altered
        now = time.monotonic()
        self._next = now + max(_SHARE * (now - begun), _GROWTH * (now - self._begun))
        return True
