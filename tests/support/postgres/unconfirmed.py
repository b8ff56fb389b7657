"""Commits that wait for a synchronous standby: in the WAL and delivered, but not visible to snapshots.

The standby does not exist. Sessions of tests do not wait for it; the server under test does, because that is
the default.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
from psycopg import pq
from tests.support.postgres.databases import SERVER_SETTINGS

UNCONFIRMED_SETTINGS = {
    **SERVER_SETTINGS,
    "synchronous_standby_names": "nobody",
    "synchronous_commit": "local",
    "autovacuum": "off",
}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def patient_url(url: str) -> str:
    """A URL whose sessions wait for the standby, as they do by default."""
    return f"{url}?options={quote('-c synchronous_commit=on')}"


class Unconfirmed:
    """A session whose commits wait for the standby."""

    def __init__(self, session: psycopg.Connection, admin: psycopg.Connection) -> None:
        self._session = session
        self._admin = admin

    def begin(self, statement: str) -> None:
        """Open a transaction with a statement."""
        self._session.execute("BEGIN")
        self._session.execute(statement)

    def hang(self) -> None:
        """COMMIT, and wait until it waits for the standby."""
        self._session.pgconn.send_query(b"COMMIT")
        query = f"{WAITING} AND pid = {self._session.info.backend_pid}"
        while self._admin.execute(query).fetchone() != (1,):
            time.sleep(0.005)

    def pass_by(self) -> None:
        """COMMIT without waiting for the standby; visible at once."""
        self._session.execute("SET LOCAL synchronous_commit = local")
        self._session.execute("COMMIT")

    def release(self) -> None:
        """End the wait, so that the transaction becomes visible."""
        self._admin.execute(f"SELECT pg_cancel_backend({self._session.info.backend_pid})")
        while (result := self._session.pgconn.get_result()) is not None:
            assert result.status == pq.ExecStatus.COMMAND_OK, result.error_message


@contextlib.contextmanager
def unconfirmed(admin: psycopg.Connection) -> Iterator[Unconfirmed]:
    """Such a session. `admin` is a connection to the same database in autocommit mode."""
    with psycopg.connect(admin.info.dsn, password=admin.info.password, autocommit=True) as session:
        session.execute("SET synchronous_commit = on")
        hanging = Unconfirmed(session, admin)
        yield hanging
        if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            hanging.release()
