"""The fixtures: nothing of a test is left on the server."""

from __future__ import annotations

import psycopg
import pytest
from tests.support.postgres.databases import fresh_database

from pgshapes.embedded.server import EmbeddedPostgres


def test_the_database_is_ready_for_logical_decoding(sql: psycopg.Connection) -> None:
    assert sql.execute("SHOW wal_level").fetchone() == ("logical",)


@pytest.mark.parametrize("in_use", [False, True])
def test_a_database_is_dropped_with_all_that_hangs_on_it(
    postgres_server: EmbeddedPostgres, in_use: bool
) -> None:
    with fresh_database(postgres_server) as url:
        connection = psycopg.connect(url, autocommit=True)
        connection.execute("SELECT pg_create_logical_replication_slot('leftover', 'pgoutput')")
        connection.execute("CREATE TABLE t (i int)")
        connection.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'leftover'")
        if not in_use:
            connection.close()
    connection.close()
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        assert (
            admin.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'leftover'").fetchall() == []
        )
        assert admin.execute("SELECT 1 FROM pg_prepared_xacts").fetchall() == []
        name = url.rpartition("/")[2]
        assert admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchall() == []
