"""The state of a run and of its items, from the run's records and its backend."""
