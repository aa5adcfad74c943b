"""Errors that htdag itself finds in jobs."""

from __future__ import annotations


class StageError(Exception):
    """A mistake that htdag itself finds in what a stage's function did."""
