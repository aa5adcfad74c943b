"""What would slow or break a run: facts about a pool, and what to make of them."""
