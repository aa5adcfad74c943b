"""The options of stages and pipelines, and the files that options name."""
