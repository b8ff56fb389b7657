"""The command line interface, with one module per command."""

from pgshapes.cli.entry import main

__all__ = ["main"]
