"""The script in a Python process that ``multiprocessing`` starts for a function.

Such a process runs the module that ``__main__.__spec__`` names, to get what the script defines.
"""

from __future__ import annotations

from typing import Any

from ..code import image
from . import shim


def _begin() -> image.Image:
    shim.install()
    parent_image = image.of_parent()
    parent_image.install()
    return parent_image


_image = _begin() if __name__ == "__mp_main__" else None


def __getattr__(name: str) -> Any:
    if _image is None:
        raise AttributeError(name)
    return _image.attribute("__main__", name)
