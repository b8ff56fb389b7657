"""`pgshapes serve`: the server, as it runs in production."""

from __future__ import annotations

import os

import click

from pgshapes.cli.setting_options import setting_options
from pgshapes.config import Settings


@click.command()
@setting_options
def serve(**flags: str | bool | None) -> int:
    """Serve the shapes of a database.

    Every option has an environment variable, PGSHAPES_ and the option's name, which the option overrides; the
    names that Electric deployments use work too.
    """
    return run_server(Settings.load(os.environ, flags))


def run_server(settings: Settings) -> int:
    """Serve until told to stop; the exit status."""
    # Imported late: `pgshapes --help` and `pgshapes tail` need nothing of the server.
    from pgshapes.wiring import run

    return run(settings)
