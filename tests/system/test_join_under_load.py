"""The join of snapshot and WAL while eight writers commit all the time.

Each creation's rows are compared with a SELECT of one snapshot: what the shape's own snapshot had, plus the
logged transactions that the SELECT's snapshot sees. Nothing has to stand still for that. 2,000 creations in
all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import psycopg
import pytest
from tests.support.clients.materialised import Materialised
from tests.support.clients.plain_client import PlainClient
from tests.support.postgres import writers
from tests.support.postgres.selected import select_rows
from tests.support.servers.servers import Server, running_server

pytestmark = pytest.mark.slow


class Part(NamedTuple):
    """Some of the creations, with writers and a table of their own.

    Row versions that nothing may remove accumulate from the first creation of a part to its last, and make
    each statement slower than the one before: parts cost less than one long run, and run side by side.
    """

    seed: int
    creations: int
    workers: int
    chunk_bytes: int
    pause_s: float = 0.01


PARTS = {
    # A client that needs a request for each kilobyte must read faster than is written, on a busy machine too.
    **{f"1kB-{seed}": Part(seed, 50, 0, 1_000, pause_s=0.05) for seed in range(1, 7)},
    **{f"10kB-workers-{seed}": Part(seed, 100, 2, 10_000) for seed in range(1, 5)},
    **{f"default-{seed}": Part(seed, 325, 0, 10_485_760) for seed in range(1, 5)},
}

FILL = "INSERT INTO items SELECT id, 1 + mod(id, 5), id, 'filled' FROM generate_series(1, %s) AS id"


def test_there_are_two_thousand_creations() -> None:
    assert sum(part.creations for part in PARTS.values()) == 2_000


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_creation_equals_a_select(database_url: str, part: Part) -> None:
    """The table leaves the publication with each deletion and is added again with each creation, its identity
    FULL.
    """
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        running_server(
            database_url,
            workers=part.workers,
            allow_delete=True,
            chunk_bytes_threshold=part.chunk_bytes,
            long_poll_timeout_ms=1000,
        ) as server,
        PlainClient(server.url) as client,
    ):
        connection.execute(writers.CREATE.format(table="items"))
        connection.execute(FILL, (writers.IDS,))
        connection.execute("ALTER TABLE items REPLICA IDENTITY FULL")
        with open_noise(database_url):
            with writers.writing(database_url, "items", writers=8, seed=part.seed, pause_s=part.pause_s):
                for _ in range(part.creations - 1):
                    shape = create(server, client, connection)
                    delete(server, client, shape)
                last = create(server, client, connection)
            visibility, lsn, expected = select_rows(connection, "items")
            connection.execute("INSERT INTO items VALUES (1000000, 1, 2, NULL)")
            last.follow_until(client, lsn)
            assert last.rows_as_of(visibility) == expected
            delete(server, client, last)


def create(server: Server, client: PlainClient, connection: psycopg.Connection) -> Materialised:
    """Create a shape, read past the join, and compare it with a SELECT made when it had all its rows.

    The writers may add chunks faster than they are read: a client that has read a change after the SELECT's
    position has read everything before it, even if it was never at the end of the log.
    """
    shape = Materialised(server.shape_url, {"table": "items"})
    while not shape.is_up_to_date and not shape.log:
        shape.request(client)
    visibility, lsn, expected = select_rows(connection, "items")
    while not has_received(shape, lsn):
        shape.request(client, live=shape.is_up_to_date)
    assert shape.rows_as_of(visibility) == expected
    return shape


def has_received(shape: Materialised, lsn: int) -> bool:
    """Whether the client has received everything committed before `lsn`."""
    if shape.is_up_to_date and shape.seen_lsn >= lsn:
        return True
    return bool(shape.log) and int(shape.log[-1]["headers"]["lsn"]) > lsn


def delete(server: Server, client: PlainClient, shape: Materialised) -> None:
    """Delete a shape."""
    gone = client.delete(server.shape_url, params={"table": "items", "handle": shape.handle or ""})
    assert gone.status_code == 202, gone.text


@contextlib.contextmanager
def open_noise(url: str) -> Iterator[None]:
    """An open transaction that keeps old snapshots' xmin back while the block runs."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE noise (id int)")
        connection.commit()
        connection.execute("INSERT INTO noise VALUES (1)")
        yield
        connection.rollback()
