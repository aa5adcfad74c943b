"""Measure the coverage of the processes that tests start, where these import htdag.

Coverage's own way begins in every process, and its import takes many times as long as Python does.
Most of the processes are jobs, which do not import htdag. So conftest.py takes that way's variable
away and sets another one, by which this module waits for the import. Run as a script, it installs
itself into the environment.
"""

from __future__ import annotations

import contextlib
import os
import sys

OWN, THEIRS = "COVERAGE_OF_HTDAG", "COVERAGE_PROCESS_CONFIG"
NAME = "_measured_htdag"


class Begin:
    """The first finder of modules: it finds none, and sees what is looked for."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "htdag" and self in sys.meta_path:
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
            os.environ[THEIRS] = os.environ[OWN]
            # In a folder that is gone nothing can be measured, and nothing is to fail for it.
            with contextlib.suppress(FileNotFoundError):
                import coverage

                coverage.process_startup()
            del os.environ[THEIRS]


def install() -> None:
    import shutil
    import sysconfig
    from pathlib import Path

    packages = Path(sysconfig.get_path("purelib"))
    shutil.copyfile(__file__, packages / f"{NAME}.py")
    line = f"import os; os.getenv({OWN!r}) and __import__({NAME!r})\n"
    (packages / f"{NAME}.pth").write_text(line)


if __name__ == "__main__":
    install()
elif __name__ == NAME:
    sys.meta_path.insert(0, Begin())
