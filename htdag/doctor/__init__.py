"""The doctor: facts about a pool, and checks for what would slow or break a run."""
