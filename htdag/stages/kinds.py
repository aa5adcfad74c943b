"""The kinds of stages, and what stands for them."""

from __future__ import annotations

from typing import Any


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"  # its copies are itself


MISSING: Any = _Missing()
"""Stands for "no initial value", so that None can be one."""


PER_ITEM = frozenset({"map", "starmap", "flat_map", "filter"})
"""Kinds that take one item after another."""


COMBINING = frozenset({"reduce", "fold", "count"})
"""Kinds that make one value of all items."""


KEYED = frozenset({"group_by", "reduce_by_key", "distinct", "sort_by"})
"""Kinds that bring items with related keys together."""


VIEWS = frozenset({"take", "batch", "zip", "product", "combinations", "concat"})
"""Kinds that only say how the items of other stages are read."""


LOOP = "iterate"
"""The kind of a loop."""


STATE = "state"
"""The kind of what stands for the state of a loop in its step."""


IMPORT = "import"
"""The kind of what stands, in a round of a loop, for a stage from outside."""


MOST_PARTITIONS = 1000
"""How many files a job may write for the keys of its items."""
