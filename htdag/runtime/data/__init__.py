"""How values are stored and read."""
