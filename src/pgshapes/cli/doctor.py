"""`pgshapes doctor`: says what in a database would keep the server from working, and what to run.

One line per finding, on standard output; indented below it, the SQL that cures it. Exit status 1 if one of
them fails.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from pgshapes.cli.serve import SettingsCommand, setting_options
from pgshapes.config import Settings, settings
from pgshapes.redaction import redaction

if TYPE_CHECKING:
    from pgshapes.doctor.facts import Needs
    from pgshapes.doctor.finding import Finding

SETTINGS: Final = (
    "database_url",
    "pooled_database_url",
    "database_ca_certificate_file",
    "db_pool_size",
    "workers",
    "replication_stream_id",
    "manual_table_publishing",
    "allow_tables_without_key",
)
"""The settings of the server that change what it needs of a database."""

_INDENT: Final = " " * 4
_COLOURS: Final = {"✓": "green", "!": "yellow", "✗": "red"}
_PLAIN_MARKS: Final = {"✓": "ok", "!": "! ", "✗": "x "}
"""For an output that cannot show the others."""


@click.command(cls=SettingsCommand)
@setting_options(SETTINGS)
@click.option(
    "--table",
    "names",
    multiple=True,
    metavar="NAME",
    help="Check only this table, as requests name it: name or schema.name; can be repeated.",
)
def doctor(names: tuple[str, ...], **flags: str | bool | None) -> int:
    """Check a database: what would keep the server from working with it, and the SQL to run.

    ✓ works, ! works but should be known, ✗ will not work. Exits with status 1 if there is a ✗. Takes the same
    environment variables as `pgshapes serve`. Changes nothing.
    """
    from pgshapes.postgres.doctor import examine

    tables = tuple(_table(name) for name in names)
    chosen = _settings(os.environ, flags)
    found = asyncio.run(examine(chosen.database_url, chosen.pooled_database_url, _needs(chosen, tables)))
    return _print(found)


def _table(name: str) -> tuple[str, str]:
    from pgshapes.http_api.params import parse_relation

    try:
        return parse_relation(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--table") from None


def _settings(env: Mapping[str, str], flags: Mapping[str, str | bool | None]) -> Settings:
    """The settings of a server in this environment, with URLs that libpq accepts.

    Only those that matter here are read.
    """
    # Imported late, because most commands do not need the server.
    from pgshapes.postgres.database_url import connectable
    from pgshapes.server.environment import configure_logs, hide_secrets

    variables = {name for setting in settings() if setting.name in SETTINGS for name in setting.variables}
    known = {name: text for name, text in env.items() if name in variables}
    given = Settings.load(known, {**flags, "insecure": True})
    hide_secrets(given)
    configure_logs("warning")
    return connectable(given)


def _needs(chosen: Settings, tables: tuple[tuple[str, str], ...]) -> Needs:
    from pgshapes.owner.start_report import needs_of

    return needs_of(chosen)._replace(tables=tables)


def _print(found: Sequence[Finding]) -> int:
    """Print the findings; return the exit status."""
    from pgshapes.doctor.finding import failing

    width = max(len(finding.subject) for finding in found)
    for finding in found:
        subject, text = _one_line(finding.subject), _one_line(finding.text)
        click.echo(f"{_mark(finding.mark.value)} {subject:{width}}  {text}")
        for statement in finding.sql:
            click.echo(f"{_INDENT}{redaction.redact(statement)}")
    wrong = len(failing(found))
    verdict = f"{wrong} of {len(found)} checks failed" if wrong else f"{len(found)} checks, none failed"
    click.echo(f"\n{verdict}")
    return 1 if wrong else 0


def _mark(mark: str) -> str:
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_MARKS[mark]
    return click.style(mark, fg=_COLOURS[mark], bold=True)


def _one_line(text: str) -> str:
    """The text without secrets, and without what a terminal would act on: names may have any character."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in redaction.redact(text))
