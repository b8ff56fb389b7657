"""A real Postgres for the tests that need one: one server per test process, one database per test.

A test with the mark `each_postgres` runs on the default version and on all others that are installed, unless
`PGSHAPES_TEST_PG` chooses one version for all tests.
"""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from _pytest.nodeid import coerce_node_id
from httpx._transports import default as httpx_transports
from hypothesis import HealthCheck, settings
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.postgres.installations import DEFAULT, chosen_version, postgres_of, versions_at_hand

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.errors import ConfigError

Servers = Callable[[int], EmbeddedPostgres]


def pytest_configure() -> None:
    """Refuse a version that is not installed, let servers receive SIGINT, keep what HTTP clients share, and
    let examples take as long as they take.

    A shell that starts the tests in the background ignores SIGINT for them, and a process inherits that; a
    handler becomes the default in a child. Each client reads all certificates of the system otherwise, for 17
    ms of the processor, and tests that wait for an answer make one for each request.
    """
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    transports: Any = httpx_transports
    transports.create_ssl_context = functools.cache(transports.create_ssl_context)
    try:
        missing = versions_at_hand()[chosen_version() or DEFAULT]
    except ConfigError as error:
        missing = error.message
    if missing:
        raise pytest.UsageError(missing)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each version that is missing, so that nobody takes its tests for passed."""
    if chosen_version() is None:
        for reason in filter(None, versions_at_hand().values()):
            terminalreporter.write_line(f"not tested: {reason}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test with the mark `each_postgres` for each version, one test process for each."""
    is_marked = metafunc.definition.get_closest_marker("each_postgres") is not None
    if is_marked and "postgres_server" in metafunc.fixturenames and chosen_version() is None:
        versions = [_parameter(version, reason) for version, reason in versions_at_hand().items()]
        metafunc.parametrize("postgres_server", versions, indirect=True, scope="session")


def _parameter(version: int, reason: str) -> object:
    """The default version may be tested in any process; a version that is missing is a skipped test."""
    marks = [] if version == DEFAULT else [pytest.mark.xdist_group(f"postgres {version}")]
    if reason:
        marks = [pytest.mark.skip(reason=reason)]
    return pytest.param(version, id=f"pg{version}", marks=marks)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no test process ends with one while the others have nothing left
    to do; each group in one test process. The tests of a file stay together: what they share is made once.
    """
    others = [item for item in items if _is_for_the_default_only(item)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if not _is_for_the_default_only(item)]
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)
    if config.getoption("loadgroup", False):
        for item in items:
            _name_group(item)


def _is_for_the_default_only(item: pytest.Item) -> bool:
    """Whether a test would run on another version with a parameter that is for the default one."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    is_other = parameters.get("postgres_server", DEFAULT) != DEFAULT
    return is_other and item.get_closest_marker("default_postgres") is not None


def _name_group(item: pytest.Item) -> None:
    """Append the group to a test's id, by which `--dist loadgroup` keeps a group in one process.

    pytest-xdist 3.8 does that itself, but in an attribute that pytest 9.2 does not read any more.
    """
    mark = item.get_closest_marker("xdist_group")
    if mark is not None and not item.nodeid.endswith(f"@{mark.args[0]}"):
        item._id = coerce_node_id(f"{item.nodeid}@{mark.args[0]}")


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[Servers]:
    """The servers of this process by version, each started when it is first needed."""
    with contextlib.ExitStack() as running:

        @functools.cache
        def server_of(version: int) -> EmbeddedPostgres:
            return running.enter_context(postgres_of(version, settings=SERVER_SETTINGS))

        yield server_of


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, postgres_servers: Servers) -> EmbeddedPostgres:
    """The server that all tests of this process share, or all that run on the same version."""
    return postgres_servers(getattr(request, "param", None) or chosen_version() or DEFAULT)


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
