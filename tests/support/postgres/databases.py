"""Databases for single tests, dropped with their slots, sessions and prepared transactions."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator

import psycopg

from pgshapes.embedded.server import EmbeddedPostgres

SERVER_SETTINGS = {
    "max_connections": "400",
    "max_wal_senders": "100",
    "max_replication_slots": "100",
    "max_prepared_transactions": "20",
    # ANALYZE makes the walsender announce relations again, which tests do not expect.
    "autovacuum": "off",
}

_numbers = itertools.count(1)


@contextlib.contextmanager
def fresh_database(server: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a new database, which is dropped at exit with its slots and prepared transactions."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        yield server.url(name)
    finally:
        if not server.is_running:
            server.start()
        drop_database(server, name)


def drop_database(server: EmbeddedPostgres, name: str) -> None:
    """Drop a database with its slots, sessions and prepared transactions, whatever its settings are."""
    patient = "-c statement_timeout=0"
    with psycopg.connect(server.url(name), autocommit=True, options=patient) as inside:
        inside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
        for (gid,) in inside.execute(prepared).fetchall():
            inside.execute(f"ROLLBACK PREPARED '{gid}'")
        _drop_slots(inside)
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _drop_slots(connection: psycopg.Connection) -> None:
    """Drop the database's slots; wait for walsenders that are still exiting."""
    slots = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
    while names := connection.execute(slots).fetchall():
        for (name,) in names:
            try:
                connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
            except psycopg.errors.ObjectInUse:
                time.sleep(0.01)
            except psycopg.errors.UndefinedObject:
                """A temporary slot was dropped with its walsender."""
