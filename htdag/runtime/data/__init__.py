"""Storing and reading values."""
