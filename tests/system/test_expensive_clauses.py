"""Clauses that take long for large rows: the stream is kept, and a clause over its budget ends its shapes."""

from __future__ import annotations

import pytest
from tests.support.clients.pending import until
from tests.support.servers.scene import MODES, Scene, scene

pytestmark = pytest.mark.slow

ROWS, CLAUSES = 10, 25
OVER = " OR ".join(f"pad LIKE '%a{number}%b%'" for number in range(10, 90))
"""A clause that may take 2 µs per character."""


def test_a_transaction_of_dear_rows_keeps_the_connection(database_url: str) -> None:
    """It takes several times `wal_sender_timeout` to route, and the walsender is the same afterwards."""
    with scene(database_url, workers=0) as stage:
        database = stage.sql.info.dbname
        stage.sql.execute(f"ALTER DATABASE \"{database}\" SET wal_sender_timeout = '2s'")
        stage.sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        shapes = [
            stage.shape(table="items", columns="id", where=f"pad NOT LIKE '%{'a_' * 9}b%{number}%'")
            for number in range(CLAUSES)
        ]
        for shape in shapes:
            shape.catch_up(stage.client)
        before = _walsender(stage)
        stage.sql.execute(
            f"INSERT INTO items SELECT i, repeat('a', 400000) FROM generate_series(1, {ROWS}) i"
        )
        stage.check(shapes, "items")
        assert _walsender(stage) == before
        assert "database connection lost" not in stage.server.log_path.read_text().split("started", 2)[-1]


def _walsender(stage: Scene) -> int:
    """The process that serves the slot."""
    (found,) = stage.sql.execute(
        "SELECT active_pid FROM pg_replication_slots WHERE database = current_database()"
    ).fetchall()
    assert found[0] is not None
    pid: int = found[0]
    return pid


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_a_clause_over_its_budget_ends_its_shape_only(
    database_url: str, workers: int, chunk_bytes: int
) -> None:
    """Its client, between two requests here, gets a 409, and then a 400 that says why, until the table is
    altered.
    """
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        params = {"table": "items", "columns": "id", "where": OVER}
        expensive, other = (
            stage.shape(**params),
            stage.shape(table="items", columns="id", where="pad LIKE '%a1%'"),
        )
        for shape in (expensive, other):
            shape.catch_up(stage.client)
        handle, offset = expensive.handle or "", str(expensive.offset)
        stage.sql.execute("INSERT INTO items VALUES (1, repeat('a1', 3000000))")
        stage.follow_to_row(other, '"public"."items"/"1"')
        url = stage.server.shape_url
        followed = params | {"offset": offset, "handle": handle}
        assert stage.client.get(url, params=followed).status_code == 409
        for at in ({"offset": "-1"}, {"offset": "-1"}):
            refused = stage.client.get(url, params=params | at)
            assert refused.status_code == 400
            assert "may take 13 s for one row of 6,000,001 characters" in refused.text
        log = stage.server.log_path.read_text()
        assert log.count("shapes ended: their clause takes too long") == 1
        stage.sql.execute("DELETE FROM items; ALTER TABLE items ADD COLUMN extra int")
        stage.sql.execute("INSERT INTO items VALUES (2)")
        asked = params | {"offset": "-1"}
        until(
            lambda: stage.client.get(url, params=asked).status_code == 200, "the altered table to be noticed"
        )
