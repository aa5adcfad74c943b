"""The script, in a Python process that ``multiprocessing`` starts for a function.

Such a process runs the module that ``__main__.__spec__`` names, to have what the script defines.
"""

from __future__ import annotations

from typing import Any

from . import image, inside

inside.install()
_image = image.of_parent()
_image.install()


def __getattr__(name: str) -> Any:
    return _image.attribute("__main__", name)
