"""What htdag itself is, and where."""

from __future__ import annotations

import os

VERSION = "0.1.0"
"""The version, in one place: the packaging reads it here."""

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder of the package."""
