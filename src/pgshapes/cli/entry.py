"""The program `pgshapes`: its commands, and how their errors are reported.

Exit codes: 0 success, 1 failure, 2 invalid usage or settings, 130 interrupted. Every PgShapesError is printed
as one line on standard error; a traceback is a bug.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress

import click

from pgshapes import __version__
from pgshapes.cli.dev import dev
from pgshapes.cli.docs import docs
from pgshapes.cli.doctor import doctor
from pgshapes.cli.secret_arguments import hide_secret_arguments
from pgshapes.cli.serve import serve
from pgshapes.cli.tail import tail
from pgshapes.errors import ConfigError, PgShapesError
from pgshapes.redaction import redaction

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pgshapes")
def commands() -> None:
    """A Postgres sync engine: live subsets of tables over plain, cacheable HTTP."""


for _command in (serve, dev, doctor, tail, docs):
    commands.add_command(_command)


def main() -> None:
    """Run the command given on the command line, and exit."""
    hide_secret_arguments(sys.argv[1:])
    try:
        status = commands.main(prog_name="pgshapes", standalone_mode=False)
    except click.Abort:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except click.ClickException as error:
        _show(error)
        raise SystemExit(error.exit_code) from None
    except PgShapesError as error:
        _say(f"pgshapes: {_one_line(error)}\n")
        raise SystemExit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED) from None
    raise SystemExit(status)


def _show(error: click.ClickException) -> None:
    text = io.StringIO()
    error.show(text)
    _say(redaction.redact(text.getvalue()))


def _say(text: str) -> None:
    """Print to standard error; the exit status says the same if that is impossible."""
    with suppress(OSError):
        click.echo(text, nl=False, err=True)


def _one_line(error: PgShapesError) -> str:
    fields = error.details.get("errors")
    text = f"{error.message}: {_flatten(fields)}" if fields else error.message
    return redaction.redact(" ".join(text.split()))


def _flatten(fields: object) -> str:
    if isinstance(fields, dict):
        return "; ".join(f"{name}: {_flatten(texts)}" for name, texts in fields.items())
    if isinstance(fields, list):
        return ", ".join(str(text) for text in fields)
    return str(fields)
