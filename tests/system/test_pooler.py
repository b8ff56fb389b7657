"""A transaction pooler between the server and Postgres: the application's sessions keep their settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised
from tests.support.pooler.pgbouncer import pgbouncer
from tests.support.postgres.databases import SERVER_SETTINGS
from tests.support.postgres.installations import postgres_of
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

ROLE_SETTINGS = {
    "statement_timeout": "7s",
    "idle_in_transaction_session_timeout": "9s",
    "lock_timeout": "3s",
    "search_path": "app, public",
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "SQL, MDY",
    "IntervalStyle": "postgres_verbose",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "jit": "on",
    "row_security": "on",
}
SIZE = 3

FOLLOWED_BY_POOLER = {
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "TimeZone",
}
"""Settings that PgBouncer itself moves from client to client with SET."""


class Place(NamedTuple):
    """A server with a table, and a role of the application."""

    server: EmbeddedPostgres
    app_password: str

    @property
    def passwords(self) -> dict[str, str]:
        return {"app": self.app_password, "postgres": urlsplit(self.server.url()).password or ""}

    def app_url(self, port: int, user: str = "app") -> str:
        return f"postgresql://{user}:{self.passwords[user]}@127.0.0.1:{port}/postgres"


@pytest.fixture
def place(postgres_server: EmbeddedPostgres) -> Iterator[Place]:
    settings = SERVER_SETTINGS | {"log_line_prefix": "%u|%a|"}
    with (
        postgres_of(postgres_server.version, settings) as server,
        psycopg.connect(server.url(), autocommit=True) as admin,
    ):
        admin.execute("CREATE ROLE app LOGIN PASSWORD 'secret'")
        for name, value in ROLE_SETTINGS.items():
            listed = ", ".join(f"'{item}'" for item in value.split(", "))
            admin.execute(f"ALTER ROLE app SET {name} = {listed}")
        admin.execute("ALTER ROLE app SET log_statement = 'all'")
        admin.execute("CREATE TABLE items (id int PRIMARY KEY, seen timestamptz, m money)")
        admin.execute("INSERT INTO items SELECT i, 'epoch', i FROM generate_series(1, 500) i")
        admin.execute("GRANT SELECT ON items TO app")
        yield Place(server, "secret")


def use(server: Server) -> None:
    """Shapes with and without a clause, subsets, and requests that fail after they began a transaction."""
    with httpx.Client(timeout=60) as client:
        for params in (
            {},
            {"where": "id < 100"},
            {"where": "id < 200", "columns": "id,m"},
            {"log": "changes_only"},
        ):
            shape = Materialised(server.shape_url, {"table": "items", **params})
            shape.catch_up(client)
        for subset in (
            {"subset__limit": "5", "subset__order_by": "id"},
            {"subset__where": "id = 7"},
            {"subset__where": "id / 0 = 1"},
            {"subset__where": "nothing = 7"},
        ):
            for _ in range(4):
                client.get(server.shape_url, params={"table": "items", "offset": "-1", **subset})
        client.get(server.shape_url, params={"table": "pg_class", "offset": "-1"})


def sessions_of_app(url: str) -> list[dict[str, tuple[str, str]]]:
    """All settings with their source, in each server connection of the pool."""
    with ExitStack() as stack:
        found = []
        for _ in range(SIZE):
            session = stack.enter_context(psycopg.connect(url, application_name="the application"))
            rows = session.execute("SELECT name, setting, source FROM pg_settings").fetchall()
            found.append({name: (setting, source) for name, setting, source in rows})
            assert session.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
            assert session.execute("SELECT pg_my_temp_schema()::int").fetchone() == (0,)
            assert session.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (0,)
        return found


def check_untouched(
    before: list[dict[str, tuple[str, str]]], after: list[dict[str, tuple[str, str]]]
) -> None:
    for session in after:
        changed = {name for name, (setting, _) in session.items() if setting != before[0][name][0]}
        assert changed == set()
        own = {name for name, (_, source) in session.items() if source == "session"}
        assert own <= FOLLOWED_BY_POOLER


@pytest.mark.parametrize("workers", [0, 2])
def test_the_applications_sessions_keep_their_settings(place: Place, workers: int) -> None:
    with pgbouncer(place.server.port, place.passwords, size=SIZE) as port:
        url = place.app_url(port)
        before = sessions_of_app(url)
        direct = place.server.url()
        with running_server(direct, pooled_database_url=url, workers=workers, db_pool_size=16) as server:
            use(server)
            check_untouched(before, sessions_of_app(url))
            with psycopg.connect(place.server.url(), autocommit=True) as admin:
                counts = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
                assert admin.execute(counts).fetchone() == (SIZE,)
            server.stop()
        check_untouched(before, sessions_of_app(url))


ALLOWED = re.compile(
    r"BEGIN (ISOLATION LEVEL REPEATABLE READ )?READ ONLY|SET LOCAL \w+ = '[^']*'(, '[^']*')*|COMMIT|ROLLBACK"
    r"|SAVEPOINT unplanned|LOCK TABLE .*|COPY \(.*|(SELECT|WITH)\s.*",
    re.DOTALL,
)
FORBIDDEN = re.compile(r"advisory|set_config\((?!.*true\))|nextval|lo_create|dblink", re.IGNORECASE)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_statement_for_the_pool_ends_with_its_transaction(place: Place, workers: int) -> None:
    """Without a pooler, so that the log has no statements of the pooler's own."""
    url = place.app_url(place.server.port)
    with running_server(place.server.url(), pooled_database_url=url, workers=workers) as server:
        use(server)
    statements = sent_by(place.server.data_dir / "server.log", "app")
    assert sum(statement.startswith("BEGIN") for statement in statements) > 10
    assert sum("COPY" in statement for statement in statements) > 10
    for statement in statements:
        for part in re.split(r";\s+(?=[A-Z]+ )", statement):
            assert ALLOWED.fullmatch(part.strip()), part
            assert not FORBIDDEN.search(part), part


def sent_by(log: Path, user: str) -> list[str]:
    text = log.read_text(errors="replace")
    found = re.findall(
        rf"^{user}\|[^|]*\|LOG:  (?:statement|execute <?\w*>?): (.*(?:\n\t.*)*)$", text, re.MULTILINE
    )
    assert f"{user}|" in text and not re.search(
        rf"^{user}\|[^|]*\|LOG:  execute (?!<unnamed>)", text, re.MULTILINE
    )
    return found


def refusal(url: str) -> str:
    """Why a server on this URL does not start."""
    with pytest.raises(RuntimeError) as ended, running_server(url, replication_stream_id="pooled"):
        """It does not get here."""
    return str(ended.value)


@pytest.mark.parametrize("user", ["app", "postgres"])
def test_a_database_url_through_a_pooler_is_diagnosed_and_leaves_nothing(place: Place, user: str) -> None:
    with pgbouncer(place.server.port, place.passwords, size=SIZE) as port:
        before = sessions_of_app(place.app_url(port, user))
        said = refusal(place.app_url(port, user))
        assert "ended with 2" in said
        assert "DATABASE_URL goes through a connection pooler" in said
        assert "PGSHAPES_POOLED_DATABASE_URL" in said
        with psycopg.connect(place.server.url(), autocommit=True) as admin:
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert admin.execute(locks).fetchone() == (0,)
        check_untouched(before, sessions_of_app(place.app_url(port, user)))


def test_a_pool_in_session_mode_is_diagnosed(place: Place) -> None:
    with pgbouncer(place.server.port, place.passwords, mode="session", size=10) as port:
        assert "goes through a connection pooler" in refusal(place.app_url(port, "postgres"))
