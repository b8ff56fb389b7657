"""`pgshapes serve`: runs the server."""

from __future__ import annotations

import os

import click

from pgshapes.cli.setting_options import setting_options
from pgshapes.config import Settings


@click.command()
@setting_options
def serve(**flags: str | bool | None) -> int:
    """Serve the shapes of a database.

    Each option can also be set by the environment variable PGSHAPES_ and its name, or by the variable that
    Electric deployments use. The option takes precedence.
    """
    return run_server(Settings.load(os.environ, flags))


def run_server(settings: Settings) -> int:
    """Serve until a signal stops the server; return the exit status."""
    # Imported late, because `pgshapes --help` and `pgshapes tail` do not need the server.
    from pgshapes.wiring import run

    return run(settings)
