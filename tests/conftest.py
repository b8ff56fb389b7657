"""A real Postgres for the tests that need one: one server per test process, one database per test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psycopg
import pytest
from _pytest.nodeid import coerce_node_id
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database

from pgshapes.embedded.server import EmbeddedPostgres


def pytest_configure() -> None:
    """Let servers receive SIGINT also where a shell started the tests in the background.

    It ignores SIGINT for them then, and a process inherits that; a handler becomes the default in a child.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests first, so that no test process ends with one while the others have nothing left to do; each
    group in one test process.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if config.getoption("loadgroup", False):
        for item in items:
            _name_group(item)


def _name_group(item: pytest.Item) -> None:
    """Append the group to a test's id, by which `--dist loadgroup` keeps a group in one process.

    pytest-xdist 3.8 does that itself, but in an attribute that pytest 9.2 does not read any more.
    """
    mark = item.get_closest_marker("xdist_group")
    if mark is not None and not item.nodeid.endswith(f"@{mark.args[0]}"):
        item._id = coerce_node_id(f"{item.nodeid}@{mark.args[0]}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """The server that all tests of this process share; `PGSHAPES_TEST_PG` chooses its version (16 or 18)."""
    version = int(os.environ.get("PGSHAPES_TEST_PG", "16"))
    with EmbeddedPostgres(version=version, settings=SERVER_SETTINGS) as server:
        yield server


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """A database of the test's own."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def sql(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to the test's database, in autocommit mode."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection
