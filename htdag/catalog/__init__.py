"""The catalog of a user's runs."""
