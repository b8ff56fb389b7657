"""A connection for the tests' own statements, and pools like those of the owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from pgshapes.postgres.connection import Connection, ConnectionPool, connect
from pgshapes.postgres.inspector import Inspector


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Connection]:
    """A connection to the test's database in autocommit mode, without the settings of `connect`."""
    async with await Connection.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def make_pool(database_url: str) -> AsyncIterator[Callable[[int], ConnectionPool]]:
    """Pools of a given size on the test's database; closed after the test."""
    made: list[ConnectionPool] = []

    def make(size: int) -> ConnectionPool:
        made.append(ConnectionPool(lambda: connect(database_url), size))
        return made[-1]

    yield make
    for pool in made:
        await pool.close()


@pytest.fixture
async def inspector(make_pool: Callable[[int], ConnectionPool]) -> AsyncIterator[Inspector]:
    inspector = Inspector(make_pool(2))
    yield inspector
    await inspector.close()
