"""Functions: the code that they reach, how they travel, and what counts as a change."""
