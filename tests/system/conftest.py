"""One server and one database for all tests of a module, in several configurations."""

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


class Environment(NamedTuple):
    """A server, its database, and a session of the test on that database."""

    server: Server
    url: str
    sql: psycopg.Connection
    workers: int


@pytest.fixture(scope="module", params=MODES)
def env(postgres_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[Environment]:
    """A server in one process or with workers, with small or large chunks."""
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
        yield Environment(server, url, sql, workers)
