"""The join of snapshot and WAL while eight writers commit all the time.

Each creation's rows are compared with a SELECT of one snapshot: what the shape's own snapshot had, plus the
logged transactions that the SELECT's snapshot sees. Nothing has to stand still for that. 2,000 creations in
all.
"""

from __future__ import annotations

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised
from tests.support.postgres import writers
from tests.support.postgres.selected import select_rows
from tests.support.servers.servers import Server, running_server


def check(server: Server, client: httpx.Client, connection: psycopg.Connection, shape: Materialised) -> None:
    """Compare a shape that has just been created with a SELECT."""
    shape.catch_up(client)
    visibility, lsn, expected = select_rows(
        connection, shape.params["table"], shape.params.get("where", "true")
    )
    shape.follow_until(client, lsn)
    assert shape.rows_as_of(visibility) == expected


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("creations", "workers", "chunk_bytes"),
    [(300, 0, 1_000), (400, 2, 10_000), (1_300, 0, 10_485_760)],
    ids=["1kB", "10kB-workers", "default"],
)
def test_every_creation_equals_a_select(
    database_url: str, creations: int, workers: int, chunk_bytes: int
) -> None:
    """The table leaves the publication with each deletion and is added again with each creation, its identity
    FULL.
    """
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        running_server(
            database_url,
            workers=workers,
            allow_delete=True,
            chunk_bytes_threshold=chunk_bytes,
            long_poll_timeout_ms=1000,
        ) as server,
        httpx.Client() as client,
    ):
        connection.execute(writers.CREATE.format(table="items"))
        connection.execute("ALTER TABLE items REPLICA IDENTITY FULL")
        with writing_noise(database_url), writers.writing(database_url, "items", writers=8, pause_s=0.01):
            for _ in range(creations):
                shape = Materialised(server.shape_url, {"table": "items"})
                check(server, client, connection, shape)
                gone = client.delete(
                    server.shape_url, params={"table": "items", "handle": shape.handle or ""}
                )
                assert gone.status_code == 202, gone.text


def writing_noise(url: str) -> psycopg.Connection:
    """A transaction that keeps old snapshots' xmin back for the whole test."""
    connection = psycopg.connect(url)
    connection.execute("CREATE TABLE IF NOT EXISTS noise (id int)")
    connection.commit()
    connection.execute("INSERT INTO noise VALUES (1)")
    return connection
