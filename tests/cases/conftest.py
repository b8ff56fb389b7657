"""The server for the HTTP cases: insecure, with deletion, small chunks and short cache times."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres


@pytest.fixture(scope="module", params=[0, 2], ids=["one-process", "workers"])
def cases_server(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres) -> Iterator[Server]:
    """One server for all cases: `.url`, `.database_url`, `.publication`."""
    with (
        fresh_database(postgres_server) as url,
        running_server(
            url,
            workers=request.param,
            allow_delete=True,
            chunk_bytes_threshold=10_000,
            cache_max_age_s=1,
            cache_stale_age_s=3,
        ) as server,
    ):
        yield server
