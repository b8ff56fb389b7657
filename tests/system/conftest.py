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
    pytest.param(mode, id=name, marks=pytest.mark.xdist_group(f"a system, {name}"))
    for name, mode in {
        "1kB": (0, 1_000),
        "1kB-workers": (2, 1_000),
        "10kB-workers": (2, 10_000),
        "default": (0, 10_485_760),
    }.items()
]
"""The tests of one mode stay in one test process, so that each server is started once."""


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
            allow_tables_without_key=True,
            long_poll_timeout_ms=1000,
        ) as server,
    ):
        yield Environment(server, url, sql, workers)
