"""Generates a command line option for each setting in `config.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pgshapes.config import Setting, settings

Command = TypeVar("Command", bound=Callable[..., Any])


def setting_options(command: Command) -> Command:
    """Add an option for each setting to the command; values are text, True, False, or None if not given."""
    for setting in reversed(list(settings())):
        command = _option(setting)(command)
    return command


def _option(setting: Setting) -> Callable[[Command], Command]:
    about = f"{setting.about.replace('`', '')}  [{_default(setting)}]"
    if setting.is_switch:
        negative = setting.flag.replace("--", "--no-", 1)
        return click.option(f"{setting.flag}/{negative}", setting.name, default=None, help=about)
    return click.option(setting.flag, setting.name, default=None, metavar="…", help=about)


def _default(setting: Setting) -> str:
    shown = setting.shown_default.replace("`", "")
    return shown if shown == "required" else f"default: {shown}"
