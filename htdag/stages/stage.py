"""The handle that users chain."""

from __future__ import annotations

from htdag.stages.combining import Combining
from htdag.stages.keyed import Keyed
from htdag.stages.per_item import PerItem
from htdag.stages.views import Views


class Stage(PerItem, Combining, Keyed, Views):
    """One operation of a pipeline on the items of the stage before it.

    Handles are made by `source`, `files` and the methods below, never directly. They are frozen:
    each method returns a new handle, and one handle may be continued in several ways.

    Attributes
    ----------
    name : str
        The name given, or one derived from the function. A `Pipeline` numbers derived names that
        would clash.
    kind : str
        ``"source"``, ``"files"``, or the name of the method that made it, such as ``"map"``.
    options : Options
        The options given to this stage.

    Examples
    --------
    >>> import htdag
    >>> squares = htdag.source(range(10)).map(lambda x: x * x)
    >>> squares.name
    'map'
    """
