"""Servers for herds: in one process, and with four HTTP processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.clients.herd import LOGGING_SETTINGS, Stage, stage
from tests.support.postgres.installations import postgres_of

from pgshapes.embedded.server import EmbeddedPostgres

MODES = [
    pytest.param(0, id="one-process", marks=pytest.mark.xdist_group("a herd and one process")),
    pytest.param(4, id="four-http-processes", marks=pytest.mark.xdist_group("a herd and four processes")),
]


@pytest.fixture(scope="session")
def logging_postgres() -> Iterator[EmbeddedPostgres]:
    """A Postgres that logs every statement before it runs it."""
    with postgres_of(settings=LOGGING_SETTINGS) as postgres:
        yield postgres


@pytest.fixture(scope="session", params=MODES)
def env(request: pytest.FixtureRequest, logging_postgres: EmbeddedPostgres) -> Iterator[Stage]:
    """A server as it is run by default; each test has tables of its own."""
    with stage(logging_postgres, request.param) as found:
        yield found


@pytest.fixture(params=MODES)
def workers(request: pytest.FixtureRequest) -> int:
    """HTTP processes, for tests that need a server of their own."""
    return int(request.param)
