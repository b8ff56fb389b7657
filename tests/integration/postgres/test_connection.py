"""Settings of connections, and the error when connecting fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from tests.support.clients.pending import until_query
from tests.support.servers.ports import free_port

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.errors import ConfigError, SourceError
from pgshapes.postgres import simple_query
from pgshapes.postgres.connection import (
    Connection,
    connect,
    connect_for_replication,
    connect_shared,
    connection_string,
)
from pgshapes.postgres.session_settings import VALUE_SETTINGS, settings_sql
from pgshapes.postgres.snapshot import begin_sql

SAMPLE = (
    "SELECT '\\x01ff'::bytea, timestamptz '2024-01-31 12:00:00.5+02', interval '1 year 2 days 3 hours',"
    " 0.1::float8 + 0.2::float8, date '2024-01-31'"
)
RENDERED = ("\\x01ff", "2024-01-31 10:00:00.5+00", "P1Y2DT3H", "0.30000000000000004", "2024-01-31")


async def texts(connection: psycopg.AsyncConnection) -> tuple[str, ...]:
    """The text of the sample values."""
    result = connection.pgconn.exec_(SAMPLE.encode())
    return tuple((result.get_value(0, column) or b"").decode() for column in range(result.nfields))


@pytest.mark.parametrize("open_it", [connect, connect_for_replication])
async def test_values_do_not_depend_on_database_settings(
    sql: psycopg.Connection, database_url: str, open_it: type
) -> None:
    for name, value in (
        ("TimeZone", "Asia/Tokyo"),
        ("DateStyle", "SQL"),
        ("bytea_output", "escape"),
        ("IntervalStyle", "sql_standard"),
        ("extra_float_digits", "0"),
        ("statement_timeout", "5s"),
        *since_17(sql),
    ):
        sql.execute(f"ALTER DATABASE {sql.info.dbname} SET {name} = '{value}'")
    async with await open_it(database_url) as connection:
        assert await texts(connection) == RENDERED
        for timeout, _ in (("statement_timeout", "5s"), *since_17(sql)):
            assert connection.pgconn.exec_(f"SHOW {timeout}".encode()).get_value(0, 0) == b"0"


def since_17(sql: psycopg.Connection) -> tuple[tuple[str, str], ...]:
    """A timeout that older servers do not know."""
    return (("transaction_timeout", "5s"),) if sql.info.server_version >= 170000 else ()


async def test_a_snapshot_has_no_timeouts(sql: psycopg.Connection, database_url: str) -> None:
    timeouts = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    timeouts += [name for name, _ in since_17(sql)]
    for name in timeouts:
        sql.execute(f"ALTER DATABASE {sql.info.dbname} SET {name} = '5s'")
    async with await connect_shared(database_url) as session:
        await simple_query.run(session, begin_sql(session.info.server_version))
        for name in timeouts:
            (shown,) = await simple_query.run(session, f"SHOW {name}")
            assert shown.get_value(0, 0) == b"0"
        await simple_query.run(session, "ROLLBACK")


async def test_the_settings_can_be_those_of_one_transaction(database_url: str) -> None:
    async with await connect(database_url, read_values=False) as connection:
        await connection.execute(b"SET TimeZone = 'Asia/Tokyo'")
        async with connection.transaction():
            await connection.execute(settings_sql(VALUE_SETTINGS, local=True).encode())
            assert await texts(connection) == RENDERED
        assert (await texts(connection))[1] == "2024-01-31 19:00:00.5+09"


async def test_a_shared_session_takes_whole_transactions_only(database_url: str) -> None:
    async with await connect_shared(database_url) as session:
        for statement in ("SET TimeZone = 'Asia/Tokyo'", "SELECT 1", "LISTEN something"):
            with pytest.raises(TypeError, match="outside a transaction"):
                await session.execute(statement.encode())
            with pytest.raises(TypeError, match="outside a transaction"):
                await simple_query.run(session, statement)
        with pytest.raises(TypeError, match="outside a transaction"):
            await simple_query.describe(session, "SELECT 1")
        await simple_query.run(session, "BEGIN")
        for _ in range(10):
            await session.execute(b"SELECT %s::int", (1,))
        cursor = await session.execute(b"SELECT name FROM pg_prepared_statements")
        assert await cursor.fetchall() == []
        cursor = await session.execute(b"SELECT name FROM pg_settings WHERE source = 'session'")
        assert await cursor.fetchall() == []
        await simple_query.run(session, "COMMIT")


async def test_a_password_may_have_any_character(sql: psycopg.Connection, database_url: str) -> None:
    password = "p@ss:/?#[]%&=word ü"
    user = f"strange_{sql.info.dbname}"
    sql.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
    url = database_url.partition("://")[2].partition("@")[2]
    try:
        async with await connect(f"postgresql://{user}:{quote(password, safe='')}@{url}") as connection:
            assert connection.info.user == user
    finally:
        sql.execute(f"DROP ROLE {user}")


async def test_a_url_needs_no_password(postgres_server: EmbeddedPostgres) -> None:
    directory = quote(postgres_server.socket_dir, safe="")
    url = f"postgresql://postgres@/postgres?host={directory}&port={postgres_server.port}"
    async with await connect(url) as connection:
        assert connection.info.dbname == "postgres"


FORMS = [
    "postgresql://{login}@{host}:{port}/{database}?schema=public",
    "postgresql://{login}@{host}:{port}/{database}?pgbouncer=true&connection_limit=1",
    "postgresql://{login}@{host}:{port}/{database}?pool=5&pool_timeout=10",
    "postgresql://{login}@{host}:{port}/{database}?ssl=false",
    "postgresql://{login}@{host}:{port}/{database}?ssl=prefer",
    "postgresql://{login}@{host}:{port}/{database}?supa=base-pooler.x",
    "postgresql://{login}@{host}:{port}/{database}?uselibpqcompat=true&opts=a&foo=bar",
    "postgresql://{login}@{host}:{port}/{database}?prepared_statements=false&statement_cache_size=0",
    "postgresql://{login}@{host}:{port}/{database}?sslaccept=accept_invalid_certs",
    "postgresql+asyncpg://{login}@{host}:{port}/{database}",
    "postgresql+psycopg://{login}@{host}:{port}/{database}",
    "postgres+psycopg2://{login}@{host}:{port}/{database}",
    "jdbc:postgresql://{host}:{port}/{database}?user={user}&password={password}",
    "ecto://{login}@{host}:{port}/{database}",
    "'postgresql://{login}@{host}:{port}/{database}'",
    "postgresql://{login}@{host}:{port}/{database}?channel_binding=prefer&target_session_attrs=read-write",
    "postgresql://{login}@{host}:{port}/{database}?options=-c work_mem=1MB -c geqo=off",
    "postgresql://{login}@{host}:{port}/{database}?options=-c%20work_mem%3D1MB&connect_timeout=5",
    "postgresql://{login}@{host}:1,{host}:{port}/{database}",
    "postgresql://{login}@nowhere.invalid:1,{host}:{port}/{database}?target_session_attrs=any",
    "postgresql://{user}@/{database}?host={directory}&port={port}",
    "postgresql://{user}@{directory}:{port}/{database}",
    "postgresql:///{database}?user={user}&password={password}&host={host}&port={port}",
    "host={host} port={port} user={user} password='{password}' dbname={database}",
]


@pytest.mark.parametrize("form", FORMS)
async def test_a_url_as_people_have_it(
    postgres_server: EmbeddedPostgres, database_url: str, form: str
) -> None:
    parts = urlsplit(database_url)
    database = parts.path.strip("/")
    url = form.format(
        login=f"{parts.username}:{parts.password}",
        user=parts.username,
        password=parts.password,
        host=parts.hostname,
        port=parts.port,
        database=database,
        directory=quote(postgres_server.socket_dir, safe=""),
    )
    for open_it in (connect, connect_for_replication):
        async with await open_it(url) as connection:
            assert connection.info.dbname == database


async def test_the_database_may_be_that_of_the_user(database_url: str) -> None:
    address = database_url.rpartition("/")[0]
    for url in (address, f"{address}/"):
        async with await connect(url) as connection:
            assert connection.info.dbname == "postgres"


async def test_the_password_may_be_in_the_environment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(database_url)
    monkeypatch.setenv("PGPASSWORD", parts.password or "")
    address = f"{parts.hostname}:{parts.port}{parts.path}"
    async with await connect(f"postgresql://{parts.username}@{address}") as connection:
        assert connection.info.user == parts.username
    monkeypatch.setenv("PGUSER", parts.username or "")
    async with await connect(f"postgresql://{address}") as connection:
        assert connection.info.user == parts.username


async def test_url_parameters_override_defaults() -> None:
    text = connection_string(
        "postgresql://u@h/d?connect_timeout=3&application_name=x", application_name="ours"
    )
    assert "connect_timeout=3" in text
    assert "application_name=ours" in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:se cret@h/d",
        "postgresql://u:p@secret@h/d",
        "postgresql://u:p/secret@h/d",
        "u:secret@h",
        "user=u password=secret nonsense=1",
        "user=u password='secret",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        connection_string(url)
    assert "cret" not in raised.value.message


async def test_failures_say_what_to_do(sql: psycopg.Connection, database_url: str) -> None:
    base, _, _ = database_url.rpartition("/")
    user = f"plain_{sql.info.dbname}"
    sql.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'x'")
    plain = f"postgresql://{user}:x@{database_url.partition('@')[2]}"
    try:
        for url, action, advice, open_it in (
            (f"{base}/nothere", "operator", "create it", connect),
            (database_url.replace("@", "x@"), "operator", "check user and password", connect),
            (f"postgresql://u@127.0.0.1:{free_port()}/d", "retry", "check that Postgres runs", connect),
            (plain, "operator", "REPLICATION", connect_for_replication),
        ):
            with pytest.raises(SourceError) as raised:
                await open_it(url)
            assert raised.value.action == action
            assert advice in raised.value.message
            assert "\n" not in raised.value.message
    finally:
        sql.execute(f"DROP ROLE {user}")


async def test_a_cancelled_attempt_leaves_no_connection(sql: psycopg.Connection, database_url: str) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'left over'"
    for pause_s in (0, 0.001, 0.002, 0.005):
        attempt = asyncio.create_task(connect(database_url, application_name="left over"))
        await asyncio.sleep(pause_s)
        attempt.cancel()
        with suppress(asyncio.CancelledError):
            await (await attempt).close()
    async with asyncio.timeout(10):
        while sql.execute(count).fetchone() != (0,):
            await asyncio.sleep(0.01)


class Waits:
    """Counts how often a task waits for a descriptor; cancels it when the last wait is over."""

    def __init__(self, last: int) -> None:
        self._left = last

    def of(self, add: Callable[..., None], task: asyncio.Task[Connection]) -> Callable[..., None]:
        """The function of a loop that adds a reader or writer, counting."""

        def add_counted(descriptor: int, ready: Callable[..., None], *arguments: object) -> None:
            self._left -= 1
            is_last = self._left == 0

            def at_ready() -> None:
                if is_last:
                    task.cancel()
                ready(*arguments)

            add(descriptor, at_ready)

        return add_counted


async def test_an_attempt_that_is_cancelled_at_any_wait_leaves_no_session(
    database_url: str, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while its exception is kept, as a task keeps it whose result nobody retrieves."""
    loop, kept = asyncio.get_running_loop(), []
    for last in itertools.count(1):
        connecting = asyncio.create_task(connect(database_url, application_name="cancelled"))
        waits = Waits(last)
        with monkeypatch.context() as patch:
            for name in ("add_reader", "add_writer"):
                patch.setattr(loop, name, waits.of(getattr(loop, name), connecting))
            await asyncio.wait((connecting,))
        if not connecting.cancelled():
            break
        with pytest.raises(asyncio.CancelledError) as caught:
            await connecting
        kept.append(caught.value)
    await connecting.result().close()
    assert len(kept) > 2
    sessions = "SELECT FROM pg_stat_activity WHERE application_name = 'cancelled'"
    await asyncio.to_thread(until_query, sql, f"SELECT WHERE NOT EXISTS ({sessions})")
