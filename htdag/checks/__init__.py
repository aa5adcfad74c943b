"""Checks of the user's values, which return them in normal form."""
