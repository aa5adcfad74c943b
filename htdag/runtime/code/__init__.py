"""How functions travel, and are made again in jobs."""
