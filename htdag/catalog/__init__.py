"""All runs of a user."""
