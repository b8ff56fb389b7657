"""One server and one database for all tests of a module, in each way to run it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import psycopg
import pytest
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

pytest.register_assert_rewrite("tests.support.servers.scene")

MODES = [
    pytest.param((0, 1_000), id="1kB"),
    pytest.param((2, 1_000), id="1kB-workers"),
    pytest.param((2, 10_000), id="10kB-workers"),
    pytest.param((0, 10_485_760), id="default"),
]


class House(NamedTuple):
    """A server, its database, and a session of our own on that."""

    server: Server
    url: str
    sql: psycopg.Connection
    workers: int


@pytest.fixture(scope="module", params=MODES)
def house(postgres_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[House]:
    """Owner and callers in one process and in several, with small chunks and large ones."""
    workers, chunk_bytes = request.param
    with (
        fresh_database(postgres_server) as url,
        psycopg.connect(url, autocommit=True) as sql,
        running_server(
            url,
            workers=workers,
            chunk_bytes_threshold=chunk_bytes,
            allow_delete=True,
            long_poll_timeout_ms=1000,
        ) as server,
    ):
        yield House(server, url, sql, workers)
