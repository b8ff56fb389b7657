"""The table that the conformance tests follow, and the rows that a client should have."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.rows import dict_row
from tests.support.servers.servers import Server

TABLE: Final = """
    CREATE TABLE items (
        id int PRIMARY KEY, name text NOT NULL, price numeric(8, 2), tags text[], seen timestamptz, ok bool,
        big int8
    )
"""
FILL: Final = """
    INSERT INTO items
    SELECT n, 'item ' || n, n / 7.0, ARRAY['a', n::text], '2024-01-31 12:00+00', n %% 2 = 0, n * 10000000000
    FROM generate_series(1, %s) n
"""
# As the clients parse them: numeric and timestamps stay texts.
AS_TYPESCRIPT: Final = "id, name, price::text, tags, seen::text, ok, big::text"
AS_PYTHON: Final = "id, name, price::text, tags, seen::text, ok, big"


class Items:
    """A table `items` of the test's own, in a schema of its own, on a server that tests share."""

    def __init__(self, server: Server, schema: str) -> None:
        self.url = server.url
        self.shape_url = server.shape_url
        self.table = f"{schema}.items"
        """The name that clients use."""
        self._database_url = server.database_url
        self._schema = schema
        self.sql(f"CREATE SCHEMA {schema}")
        self.sql(TABLE)

    def sql(self, query: str, *parameters: Any) -> None:
        """Run statements, in which the table is `items`."""
        with self._connect() as connection:
            connection.execute(query.encode(), parameters or None)

    def fill(self, rows: int) -> None:
        """Insert rows, numbered from 1."""
        self.sql(FILL, rows)

    def selected(self, columns: str, condition: str = "true") -> list[dict[str, Any]]:
        """The rows according to Postgres, ordered by id."""
        with self._connect() as connection:
            query = f"SELECT {columns} FROM items WHERE {condition} ORDER BY id"
            return connection.cursor(row_factory=dict_row).execute(query.encode()).fetchall()

    def _connect(self) -> psycopg.Connection[Any]:
        options = f"-c search_path={self._schema} -c TimeZone=UTC"
        return psycopg.connect(self._database_url, autocommit=True, options=options)


def by_id(rows: Any) -> list[dict[str, Any]]:
    """The rows ordered by id."""
    return sorted(rows, key=lambda row: row["id"])
