"""The user's own distributions in jobs: those that are installed in editable mode.

Their modules are sent with the job, so that it need not have them installed; so is their metadata,
for `importlib.metadata`.
"""

from __future__ import annotations

import sys
from typing import Any, Dict, List


class _Finder:
    """A finder of distributions for `importlib.metadata`, not of modules."""

    def __init__(self, distributions: List[Dict[str, str]]) -> None:
        self._distributions = distributions

    def find_spec(self, *_: Any) -> None:
        """Find no module."""

    def find_distributions(self, context: Any = None) -> Any:
        """Yield the distributions for a context."""
        from importlib import metadata  # it takes time that few jobs need

        class Travelled(metadata.Distribution):
            def __init__(self, files: Dict[str, str]) -> None:
                self._files = files

            def read_text(self, filename: str) -> Any:
                return self._files.get(filename)

            def locate_file(self, path: Any) -> Any:
                raise FileNotFoundError("%s is not in this job" % (path,))

        wanted = getattr(context, "name", None)
        for files in self._distributions:
            distribution = Travelled(files)
            if wanted is None or _normal(wanted) == _normal(str(distribution.metadata["Name"])):
                yield distribution


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def install(distributions: List[Dict[str, str]]) -> None:
    """Make `importlib.metadata` find distributions, before others of the same name.

    Parameters
    ----------
    distributions : list of dict
        The texts of their files, such as ``METADATA``, by name.
    """
    finder: Any = _Finder(distributions)
    sys.meta_path.insert(0, finder)
