"""Transactions in many fragments, and shapes that are created between the fragments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from tests.support.servers.scene import Scene, scene

pytestmark = pytest.mark.slow

LONG = """
BEGIN;
INSERT INTO items SELECT {start} + i, repeat('y', 40) FROM generate_series(1, 1250) i;
SAVEPOINT one;
INSERT INTO items SELECT {start} + 5000 + i FROM generate_series(1, 1000) i;
UPDATE items SET pad = 'rolled back' WHERE id > {start};
ROLLBACK TO one;
INSERT INTO items SELECT {start} + 1250 + i FROM generate_series(1, 1250) i;
SAVEPOINT two;
UPDATE items SET pad = 'kept' WHERE id > {start};
RELEASE two;
COMMIT
"""


@pytest.mark.parametrize(
    ("workers", "chunk_bytes", "count"),
    [
        pytest.param(0, 1_000, 3, id="1kB"),
        pytest.param(2, 10_000, 10, id="10kB-workers"),
        pytest.param(0, 10_485_760, 24, id="default"),
    ],
)
def test_shapes_that_are_made_in_the_middle_of_long_transactions(
    database_url: str, workers: int, chunk_bytes: int, count: int
) -> None:
    """Transactions of 5,000 changes come in pieces; shapes are registered between the pieces, and each is
    sent all of a transaction or none.
    """
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        witness = stage.shape(table="items")
        witness.catch_up(stage.client)
        shapes = [stage.shape(table="items", where=f"id > -{number}") for number in range(1, count + 1)]
        with ThreadPoolExecutor(3) as threads:
            writing = threads.submit(write_long_transactions, stage, 2)
            for asked in [threads.submit(shape.request, stage.client) for shape in shapes]:
                asked.result()
            writing.result()
        stage.check([witness, *shapes], "items")
        for shape in [witness, *shapes]:
            assert lasts(shape.log) == {int(m["headers"]["lsn"]): 1 for m in shape.log}
            assert {len(places) for places in transactions(shape.log).values()} <= {5000, 1}


def write_long_transactions(stage: Scene, count: int) -> None:
    """Several, one after the other."""
    with psycopg.connect(stage.sql.info.dsn, password=stage.sql.info.password, autocommit=True) as sql:
        for number in range(1, count + 1):
            sql.execute(LONG.format(start=number * 10_000))


def transactions(log: list[dict[str, Any]]) -> dict[int, list[int]]:
    """The op positions of each transaction."""
    places: dict[int, list[int]] = {}
    for message in log:
        places.setdefault(int(message["headers"]["lsn"]), []).append(message["headers"]["op_position"])
    return places


def lasts(log: list[dict[str, Any]]) -> dict[int, int]:
    """How often each transaction was ended; only its final message may do so."""
    ends: dict[int, int] = {}
    for message, following in zip(log, [*log[1:], None], strict=True):
        lsn = int(message["headers"]["lsn"])
        is_final = following is None or int(following["headers"]["lsn"]) != lsn
        assert message["headers"].get("last", False) is is_final
        ends[lsn] = ends.get(lsn, 0) + int(is_final)
    return ends
