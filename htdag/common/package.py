"""The location of the package htdag."""

from __future__ import annotations

import os

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder of the package."""
