"""Live followers while writers write, with chunks so small that every transaction crosses a bound.

Electric loses operations there. Here each of fifty followers must get every operation once, in the same order
as all others.
"""

from __future__ import annotations

import httpx
import psycopg
import pytest
from tests.support.clients.followers import following
from tests.support.clients.materialised import Materialised
from tests.support.clients.pending import end_mark
from tests.support.postgres import writers
from tests.support.postgres.bursts import bursts
from tests.support.postgres.selected import select_rows
from tests.support.servers.servers import running_server

pytestmark = pytest.mark.slow

FOLLOWERS = 50
TRANSACTIONS = 50
"""Transactions of each writer."""

DEFINITIONS = [
    {"table": "items"},
    {"table": "items", "where": "tenant = 1", "replica": "full"},
    {"table": "items", "where": "n % 2 = 0 OR tenant > 2"},
]


@pytest.mark.parametrize(
    ("workers", "chunk_bytes"),
    [
        pytest.param(0, 1_000, id="1kB"),
        pytest.param(2, 1_000, id="1kB-workers"),
        pytest.param(2, 10_000, id="10kB-workers"),
    ],
)
def test_every_follower_gets_every_operation_once(database_url: str, workers: int, chunk_bytes: int) -> None:
    """The first and the last follower have the same log, and the rows of a SELECT."""
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        running_server(
            database_url, workers=workers, chunk_bytes_threshold=chunk_bytes, long_poll_timeout_ms=1000
        ) as server,
    ):
        connection.execute(writers.CREATE.format(table="items"))
        shapes = [
            Materialised(server.shape_url, DEFINITIONS[number % len(DEFINITIONS)])
            for number in range(FOLLOWERS)
        ]
        with following(shapes) as followers:
            with bursts(database_url, "items", TRANSACTIONS):
                """They write."""
            lsn = end_mark(connection, "INSERT INTO items VALUES (1000000, 1, 0, NULL)")
            followers.finish(lsn)
        for definition in DEFINITIONS:
            compare([shape for shape in shapes if shape.params is definition], connection)


def compare(shapes: list[Materialised], connection: psycopg.Connection) -> None:
    """Compare the followers of one definition with each other, with a late client, and with a SELECT."""
    late = Materialised(shapes[0].shape_url, shapes[0].params)
    with httpx.Client() as client:
        late.catch_up(client)
    _, _, expected = select_rows(connection, "items", late.params.get("where", "true"))
    for shape in [*shapes, late]:
        assert shape.handle == late.handle
        assert shape.log == late.log
        assert shape.rows == expected
