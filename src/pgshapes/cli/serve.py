"""`pgshapes serve`: runs the server as in production, with an option for each setting in `config.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click

from pgshapes.config import Setting, Settings, settings

Command = TypeVar("Command", bound=Callable[..., Any])


def setting_options(names: Collection[str]) -> Callable[[Command], Command]:
    """Add an option for each of these settings; values are text, True, False, or None if not given."""

    def add(command: Command) -> Command:
        for setting in reversed([each for each in settings() if each.name in names]):
            command = _option(setting)(command)
        return command

    return add


def _option(setting: Setting) -> Callable[[Command], Command]:
    about = f"{setting.about.replace('`', '')}  [{_default(setting)}]"
    if setting.is_switch:
        negative = setting.flag.replace("--", "--no-", 1)
        return click.option(f"{setting.flag}/{negative}", setting.name, default=None, help=about)
    return click.option(setting.flag, setting.name, default=None, metavar="…", help=about)


def _default(setting: Setting) -> str:
    shown = setting.shown_default.replace("`", "")
    return shown if shown == "required" else f"default: {shown}"


class SettingsCommand(click.Command):
    """A command whose messages about its usage quote no argument, which may be a secret."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line. Raises UsageError."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if type(error) is not click.UsageError:
                raise
            text = "Got an argument that belongs to no option: give each setting as --name value"
            raise click.UsageError(text, ctx) from None


@click.command(cls=SettingsCommand)
@setting_options([setting.name for setting in settings()])
def serve(**flags: str | bool | None) -> int:
    """Serve the shapes of a database.

    Each option can also be set by the environment variable PGSHAPES_ and its name, or by the variable that
    Electric deployments use. The option takes precedence. Set secrets by variables: a command line is visible
    to other users, on Linux until the server hides them at its start.
    """
    return run_server(Settings.load(os.environ, flags))


def run_server(settings: Settings) -> int:
    """Serve until a signal stops the server; return the exit status."""
    # Imported late, because `pgshapes --help` and `pgshapes tail` do not need the server.
    from pgshapes.wiring import run

    return run(settings)
