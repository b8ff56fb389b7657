"""Identifies the database cluster, and checks that it meets the requirements.

The pair (system id, timeline) distinguishes a restored or promoted server from the one for which shapes were
created. The caller decides what to do about a difference. An unsuitable server is a ConfigError.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import psycopg

from pgshapes.errors import ConfigError, SourceError
from pgshapes.postgres.connection import Connection
from pgshapes.postgres.sqlstate import from_sqlstate

_CHECK: Final = """
SELECT pg_catalog.current_setting('wal_level'),
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('server_encoding'),
       current_user,
       r.rolreplication OR r.rolsuper OR EXISTS (
         SELECT 1 FROM pg_catalog.pg_roles g
         WHERE g.rolname = 'rds_replication'
           AND pg_catalog.pg_has_role(current_user, g.oid, 'MEMBER'))
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""


class SystemIdentity(NamedTuple):
    """A cluster and its timeline."""

    system_id: str
    timeline: int


async def identify_system(replication: Connection) -> SystemIdentity:
    """The cluster behind a walsender connection. Raises SourceError.

    IDENTIFY_SYSTEM has the new timeline right after a promotion; the control file has it after the next
    checkpoint.
    """
    try:
        row = await (await replication.execute(b"IDENTIFY_SYSTEM")).fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    if row is None:
        raise SourceError("IDENTIFY_SYSTEM returned no row")
    return SystemIdentity(str(row[0]), int(row[1]))


async def check_source(connection: Connection) -> None:
    """Raise ConfigError, with what to change, unless the database meets the requirements."""
    try:
        row = await (await connection.execute(_CHECK)).fetchone()
    except psycopg.Error as error:
        raise from_sqlstate(error) from error
    if row is None:
        raise ConfigError("the current user is not in pg_roles: DATABASE_URL has to lead to Postgres itself")
    wal_level, is_standby, encoding, user, may_replicate = row
    if wal_level != "logical":
        raise ConfigError(
            f"Postgres has wal_level = {wal_level}: run ALTER SYSTEM SET wal_level = 'logical' and restart it"
        )
    if is_standby:
        raise ConfigError("this Postgres is a standby: let DATABASE_URL point to the primary")
    if encoding != "UTF8":
        raise ConfigError(f"the database has encoding {encoding}: use one with encoding UTF8")
    if not may_replicate:
        raise ConfigError(
            f"User does not have the REPLICATION attribute: run ALTER ROLE {user} WITH REPLICATION"
        )
