"""The version and the location of the package htdag."""

from __future__ import annotations

import os

VERSION = "0.2.0"
"""The version of htdag; the packaging reads it from here, too."""

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder of the package."""
