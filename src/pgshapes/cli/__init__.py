"""The command line, one file per command."""

from pgshapes.cli.entry import main

__all__ = ["main"]
