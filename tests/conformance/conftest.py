"""Servers for real clients: owner and callers in one process, and in several."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from tests.conformance.items import Items
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

_numbers = itertools.count()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(0, id="one process", marks=pytest.mark.xdist_group("conformance in one process")),
        pytest.param(2, id="workers", marks=pytest.mark.xdist_group("conformance with workers")),
    ],
)
def server(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres) -> Iterator[Server]:
    """A server for the tests of a module; each has a table of its own."""
    with (
        fresh_database(postgres_server) as url,
        running_server(url, workers=request.param, allow_delete=True) as running,
    ):
        yield running


@pytest.fixture
def items(server: Server) -> Items:
    """An empty table."""
    return Items(server, f"test_{next(_numbers)}")
