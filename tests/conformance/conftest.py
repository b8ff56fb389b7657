"""A server on a database of the test's own, for real clients to talk to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers import running_server


@pytest.fixture(params=[0, 2], ids=["one process", "workers"])
def server(request: pytest.FixtureRequest, database_url: str) -> Iterator[Any]:
    """`.url`, `.database_url`, `.sql(query)`; owner and callers in one process, and in several."""
    with running_server(database_url, workers=request.param, allow_delete=True) as running:
        yield running
