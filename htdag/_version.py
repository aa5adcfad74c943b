"""The version of htdag; the packaging reads it from here, too."""

VERSION = "0.1.0"
