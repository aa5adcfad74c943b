"""Files that travel with jobs and in items."""
