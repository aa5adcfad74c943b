"""Types of what is JSON in a run directory, file by file: a line for each key.

Keys that not all versions of htdag write are in a base of their type, and may be missing. Nothing
imports this but for types, so jobs and scripts do not pay for it, and it does not travel.
"""
