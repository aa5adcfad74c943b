"""Pickling functions and values, and restoring them in jobs."""
