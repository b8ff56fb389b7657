"""The door to Postgres: every connection is opened here, so that all of them read the same text for a value.

Not here: pools, retries, and whether the database suits us (`system_identity`). A connection belongs to
whoever opened it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import psycopg
from psycopg import conninfo
from psycopg.abc import ConnParam
from psycopg.rows import TupleRow

from pgshapes.errors import ConfigError
from pgshapes.postgres.sqlstate import from_sqlstate

Connection = psycopg.AsyncConnection[TupleRow]

OLDEST_SERVER: Final = 140000

VALUE_SETTINGS: Final = (
    ("bytea_output", "hex"),
    ("DateStyle", "ISO, DMY"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("IntervalStyle", "iso_8601"),
)
"""What decides the text of a value (semantics §3). The same everywhere, or snapshot and log disagree."""

LONG_LIFE_SETTINGS: Final = (
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("synchronous_commit", "local"),
)
"""What a role or database may set for short requests, and what would end connections that wait on purpose.

Our commits alter the publication and identities, and hold locks until they are through: a standby that is
away must not hold up the writers of a table. A standby that takes over without them has another timeline, so
that everything starts anew.
"""

_CONNECT_TIMEOUT_S: Final = 10
_DEFAULTS: Final[dict[str, ConnParam]] = {
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""A peer that vanished without a word is noticed within half a minute. What the URL says goes first."""


def connection_string(url: str, **parameters: str) -> str:
    """The URL as libpq reads it, with our parameters. Raises ConfigError, without the URL in it."""
    try:
        given = conninfo.conninfo_to_dict(url)
        wanted = {**_DEFAULTS, **given, "client_encoding": "UTF8", **parameters}
        return conninfo.make_conninfo("", **wanted)
    except psycopg.Error:
        # libpq's text repeats the part that it could not read, which may be the password.
        raise ConfigError(
            "DATABASE_URL cannot be read: percent-encode special characters in user and password, as in"
            " postgresql://user:p%40ssword@host:5432/database"
        ) from None


def settings_sql(settings: Iterable[tuple[str, str]], *, local: bool = False) -> str:
    """Statements that set each; with `local` for the running transaction only, which poolers can bear."""
    verb = "SET LOCAL" if local else "SET"
    return "; ".join(f"{verb} {name} = '{value}'" for name, value in settings)


async def connect(url: str, *, application_name: str = "pgshapes", read_values: bool = True) -> Connection:
    """A connection of our own, in autocommit mode.

    Raises SourceError, and ConfigError for a URL that cannot be read or a server that is too old.
    """
    return await _open(connection_string(url, application_name=application_name), read_values)


async def connect_for_replication(url: str, *, application_name: str = "pgshapes") -> Connection:
    """A walsender connection: it takes replication commands, and SQL without parameters."""
    parameters = {"application_name": application_name, "replication": "database"}
    return await _open(connection_string(url, **parameters), read_values=True)


async def _open(text: str, read_values: bool) -> Connection:
    settings = LONG_LIFE_SETTINGS + (VALUE_SETTINGS if read_values else ())
    connection: Connection | None = None
    try:
        connection = await psycopg.AsyncConnection.connect(text, autocommit=True)
        _check_version(connection.info.server_version)
        await connection.execute(settings_sql(settings).encode())
    except BaseException as error:
        if connection is not None:
            await connection.close()
        if isinstance(error, psycopg.Error):
            raise from_sqlstate(error) from error
        raise
    return connection


def _check_version(version: int) -> None:
    if version < OLDEST_SERVER:
        raise ConfigError(
            f"Postgres {version // 10000} is too old: use Postgres {OLDEST_SERVER // 10000} or newer"
        )
