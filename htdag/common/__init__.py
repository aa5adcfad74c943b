"""Helpers that depend on nothing else in htdag."""
