"""Errors that htdag itself detects in jobs."""

from __future__ import annotations


class StageError(Exception):
    """A mistake of a stage's function that htdag itself detects."""
