"""The reuse of what other runs have finished, and the reasons why something is not reused."""
