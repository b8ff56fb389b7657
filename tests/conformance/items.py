"""The table that the conformance tests follow, and what a client should have of it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import dict_row

TABLE = """
    CREATE TABLE items (
        id int PRIMARY KEY, name text NOT NULL, price numeric(8, 2), tags text[], seen timestamptz, ok bool,
        big int8
    )
"""
FILL = """
    INSERT INTO items
    SELECT n, 'item ' || n, n / 7.0, ARRAY['a', n::text], '2024-01-31 12:00:00+00', n % 2 = 0, n * 10000000000
    FROM generate_series(1, {rows}) n
"""
# As the clients parse them: numeric and timestamps stay texts.
AS_TYPESCRIPT = "id, name, price::text, tags, seen::text, ok, big::text"
AS_PYTHON = "id, name, price::text, tags, seen::text, ok, big"


def fill(server: Any, rows: int) -> None:
    """Make the table, with rows numbered from 1."""
    server.sql(TABLE)
    server.sql(FILL.format(rows=rows))


def selected(server: Any, columns: str, condition: str = "true") -> list[dict[str, Any]]:
    """What Postgres says, ordered by id."""
    with psycopg.connect(server.database_url, row_factory=dict_row) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"SELECT {columns} FROM items WHERE {condition} ORDER BY id").fetchall()


def by_id(rows: Any) -> list[dict[str, Any]]:
    """The rows ordered by id."""
    return sorted(rows, key=lambda row: row["id"])
