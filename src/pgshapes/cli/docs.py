"""`pgshapes docs`: the pages that are made from the program itself."""

from __future__ import annotations

import click

from pgshapes.config import Setting, settings

CONFIGURATION_HEAD = """\
# Configuration

Made by `make docs` from `src/pgshapes/config.py`.

Each setting is an option of `pgshapes serve` and an environment variable. The option wins over the variable
`PGSHAPES_…`, which wins over the other names; those are the ones that Electric deployments use, so that one
can swap the image and keep its environment. A variable that is empty counts as not set. A setting that cannot
be right ends the start with one line that says what to do, and exit code 2.

Durations are a number with `ms`, `s` or `min` (without a unit: milliseconds); sizes a number with `KB`,
`KiB`, `MB`, `MiB`, `GB` or `GiB` (without a unit: bytes).
"""


@click.group()
def docs() -> None:
    """Print a page of the documentation that is made from the program."""


@docs.command()
def configuration() -> None:
    """Every setting: option, environment variables, default, meaning."""
    click.echo(render_configuration(), nl=False)


def render_configuration() -> str:
    """The page `docs/configuration.md`."""
    return "\n".join([CONFIGURATION_HEAD, *(_section(setting) for setting in settings())])


def _section(setting: Setting) -> str:
    option = f"`{setting.flag}`" + (
        f", `{setting.flag.replace('--', '--no-', 1)}`" if setting.is_switch else ""
    )
    variables = ", ".join(f"`{variable}`" for variable in setting.variables)
    row = f"| {option} | {variables} | {setting.shown_default} |"
    return (
        f"## {setting.name}\n\n{setting.about}\n\n| option | environment | default |\n|---|---|---|\n{row}\n"
    )
