"""The rows of a SELECT, as a client has them, with the visibility of its snapshot."""

from __future__ import annotations

import psycopg
from tests.support.clients.materialised import Row

from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres.snapshot import parse_visibility

COLUMNS = ("id", "tenant", "n", "pad")


def select_rows(
    connection: psycopg.Connection, table: str, where: str = "true"
) -> tuple[SnapshotVisibility, int, dict[str, Row]]:
    """Visibility, WAL position and rows, by key, of one snapshot of a table made by
    `tests.support.postgres.writers.CREATE`.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        taken = connection.execute("SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text")
        snapshot, lsn = taken.fetchone() or ("", "")
        rows = connection.execute(f"SELECT id, tenant, n, pad FROM {table} WHERE {where}").fetchall()
    visibility = parse_visibility(snapshot, lsn)
    named = {
        f'"public"."{table}"/"{row[0]}"': dict(zip(COLUMNS, map(_text, row), strict=True)) for row in rows
    }
    return visibility, visibility.insert_lsn, named


def _text(value: object) -> str | None:
    return None if value is None else str(value)
