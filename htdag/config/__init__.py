"""Settings, folders and the log."""
