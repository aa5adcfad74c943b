"""The version of htdag, in one place."""

from importlib.metadata import version

VERSION = version("htdag")
