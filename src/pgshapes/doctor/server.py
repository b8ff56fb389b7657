"""Checks of the server's set-up: version, WAL level, limits, retention. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgshapes.doctor.facts import Facts, Needs, RoleFacts, ServerFacts
from pgshapes.doctor.finding import Finding, fails, warns, works
from pgshapes.doctor.printable import shown_size, shown_time
from pgshapes.model.quoting import quote_identifier

OLDEST_VERSION: Final = 140000
SHORTEST_SENDER_TIMEOUT_S: Final = 10.0
"""The stream sends its status every 10 s, and when the server asks for it."""
SMALL_RETENTION: Final = 2**30
"""64 segments: a bulk load writes that much in some seconds."""

_HOW_TO_SET_WAL_LEVEL: Final = {
    "rds_superuser": "set rds.logical_replication = 1 in the parameter group and restart the instance",
    "cloudsqlsuperuser": "set the flag cloudsql.logical_decoding = on, which restarts the instance",
    "azure_pg_admin": "set the server parameter wal_level = logical and restart the server",
    "neon_superuser": "enable logical replication in the settings of the project",
}
"""By the role that shows the service: ALTER SYSTEM is not available there."""


def check_server(facts: Facts, needs: Needs) -> Iterator[Finding]:
    """What the server must be for any shape."""
    server = facts.server
    yield _version(server)
    yield _primary(server)
    yield _wal_level(server)
    yield _encoding(server)
    yield _writable(server, facts.role)
    yield _connections(server, needs)


def check_retention(server: ServerFacts) -> Iterator[Finding]:
    """How long Postgres waits for a server that is stopped or slow."""
    yield _wal_retention(server)
    yield _idle_slots(server)
    yield _sender_timeout(server)


def _version(server: ServerFacts) -> Finding:
    if server.version_number >= OLDEST_VERSION:
        return works("version", f"Postgres {server.version}")
    oldest = OLDEST_VERSION // 10000
    return fails("version", f"Postgres {server.version} is too old: use Postgres {oldest} or newer")


def _primary(server: ServerFacts) -> Finding:
    if not server.is_standby:
        return works("primary", "this server is a primary")
    where = f" at {server.primary_address}" if server.primary_address else ""
    return fails("primary", f"this server is a standby: use the address of the primary{where}")


def _wal_level(server: ServerFacts) -> Finding:
    if server.wal_level == "logical":
        return works("wal_level", "logical")
    problem = f"is {server.wal_level}, must be logical"
    if server.provider in _HOW_TO_SET_WAL_LEVEL:
        return fails("wal_level", f"{problem}: {_HOW_TO_SET_WAL_LEVEL[server.provider]}")
    where = " on the primary" if server.is_standby else ""
    return fails(
        "wal_level",
        f"{problem}: run this{where} and restart Postgres",
        "ALTER SYSTEM SET wal_level = 'logical';",
    )


def _encoding(server: ServerFacts) -> Finding:
    if server.encoding == "UTF8":
        return works("encoding", "UTF8")
    return fails("encoding", f"is {server.encoding}, must be UTF8: move the data to a database with it")


def _writable(server: ServerFacts, role: RoleFacts) -> Finding:
    if not server.is_read_only:
        return works("read-only", "transactions may write")
    text = "default_transaction_read_only is on (managed services set it when a disk is full)"
    if server.read_only_source == "client":
        text = "default_transaction_read_only is on: remove it from the URL's options or from PGOPTIONS"
    return warns("read-only", text, *_make_writable(server.read_only_source, role))


def _make_writable(source: str, role: RoleFacts) -> tuple[str, ...]:
    name, database = quote_identifier(role.name), quote_identifier(role.database)
    reset = "RESET default_transaction_read_only;"
    if source == "database user":
        return (f"ALTER ROLE {name} IN DATABASE {database} {reset}",)
    if source in ("user", "database"):
        kind, subject = ("ROLE", name) if source == "user" else ("DATABASE", database)
        return (f"ALTER {kind} {subject} {reset}",)
    if source == "client":
        return ()
    return ("ALTER SYSTEM SET default_transaction_read_only = off; SELECT pg_reload_conf();",)


def _connections(server: ServerFacts, needs: Needs) -> Finding:
    free = max(server.max_connections - server.used_connections, 0)
    text = f"{free} of {server.max_connections} are free"
    if free >= needs.connections:
        return works("connections", text)
    return warns(
        "connections",
        f"{text}, the server opens up to {needs.connections}: lower db_pool_size, or raise max_connections",
    )


def _wal_retention(server: ServerFacts) -> Finding:
    kept = f"; wal_keep_size is {shown_size(server.wal_keep)}" if server.wal_keep else ""
    limit = server.max_slot_wal_keep
    if limit is None:
        text = "max_slot_wal_keep_size is unlimited: a slot that nobody reads fills the disk, none is lost"
        return works("WAL retention", text + kept)
    text = f"max_slot_wal_keep_size is {shown_size(limit)}: a slot that is further behind is lost"
    if limit >= SMALL_RETENTION:
        return works("WAL retention", text + kept)
    return warns(
        "WAL retention",
        f"{text}, and all shapes are recreated{kept}",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();",
    )


def _idle_slots(server: ServerFacts) -> Finding:
    if server.idle_slot_timeout_s == 0:
        return works("idle slots", "are kept: idle_replication_slot_timeout is not set")
    text = (
        f"idle_replication_slot_timeout is {shown_time(server.idle_slot_timeout_s)}: if the server is stopped"
        " for longer, its slot is lost and all shapes are recreated"
    )
    sql = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();"
    return warns("idle slots", text, sql)


def _sender_timeout(server: ServerFacts) -> Finding:
    timeout_s = server.sender_timeout_s
    if timeout_s == 0:
        text = "is off: the walsender of a server that has died keeps the slot in use"
    elif timeout_s < SHORTEST_SENDER_TIMEOUT_S:
        text = f"is {timeout_s:g} s: the stream may be ended while the server is only busy"
    else:
        return works("wal_sender_timeout", f"{timeout_s:g} s")
    sql = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();"
    return warns("wal_sender_timeout", text, sql)
