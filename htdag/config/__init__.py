"""Settings, directories and the log."""
