"""`pgshapes doctor` on real databases: what it prints is so, and what it prints to run cures it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.pooler.pgbouncer import pgbouncer
from tests.support.postgres.databases import fresh_database
from tests.support.postgres.roles import as_role, role
from tests.support.postgres.standby import streaming_standby
from tests.support.servers.doctor import Report, run_doctor, run_program

from pgshapes.embedded.server import EmbeddedPostgres

SECRET = "swordfish"


def run_sql(sql: psycopg.Connection, report: Report) -> None:
    """Run all statements that a report prints below its failing lines."""
    for line in report.failing():
        for statement in line.sql:
            for each in statement.partition("--")[0].split("; "):
                sql.execute(each.replace("(…)", "(a)"))


def test_a_fresh_database(database_url: str) -> None:
    report = run_doctor(database_url)
    assert {line.mark for line in report.lines} == {"✓"}, report.output
    assert report.status == 0
    assert "good for replication" in report.about("database_url").text


def test_a_database_in_use(postgres_server: EmbeddedPostgres, database_url: str) -> None:
    """Tables of every followable kind."""
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute("CREATE TABLE plain (id int PRIMARY KEY)")
        sql.execute("CREATE TABLE by_index (a int NOT NULL UNIQUE, b int)")
        sql.execute("CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id)")
        sql.execute("CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (1) TO (9)")
        sql.execute('CREATE TABLE "od\x1bd.Name" (id int PRIMARY KEY)')
    report = run_doctor(database_url)
    assert report.status == 0, report.output
    assert "4 of 4 tables can be followed" in report.output
    one = run_doctor(database_url, "--table", "root", "--table", "leaf", "--table", '"od\x1bd.Name"')
    assert one.status == 0
    assert "\x1b" not in one.output


KINDS = {
    "unlogged": ("CREATE UNLOGGED TABLE x (id int PRIMARY KEY)", "it is unlogged"),
    "no key": ("CREATE TABLE x (a int)", "neither a primary key nor"),
    "nullable key": ("CREATE TABLE x (a int UNIQUE)", "neither a primary key nor"),
    "partial index": (
        "CREATE TABLE x (a int NOT NULL); CREATE UNIQUE INDEX ON x (a) WHERE a > 0",
        "neither a primary key nor",
    ),
    "index on an expression": (
        "CREATE TABLE x (a int NOT NULL); CREATE UNIQUE INDEX ON x ((a + 1))",
        "neither a primary key nor",
    ),
    "deferrable key": ("CREATE TABLE x (a int PRIMARY KEY DEFERRABLE)", "primary key is deferrable"),
    "partition that is unlogged": (
        "CREATE TABLE x (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        " CREATE UNLOGGED TABLE x1 PARTITION OF x FOR VALUES FROM (1) TO (9)",
        "is unlogged",
    ),
    "partitioned without a key": ("CREATE TABLE x (a int) PARTITION BY RANGE (a)", "has no primary key"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_can_be_cured(sql: psycopg.Connection, database_url: str, kind: str) -> None:
    create, reason = KINDS[kind]
    sql.execute(create)
    for arguments in ([], ["--table", "x"]):
        report = run_doctor(database_url, *arguments)
        assert report.status == 1
        assert report.about(reason).mark == "✗"
    run_sql(sql, report)
    assert run_doctor(database_url, "--table", "x").status == 0


INCURABLE = {
    "view": ("CREATE VIEW x AS SELECT 1 AS a", "is a view"),
    "materialized view": ("CREATE MATERIALIZED VIEW x AS SELECT 1 AS a", "is a materialized view"),
    "foreign table": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        " CREATE FOREIGN TABLE x (a int) SERVER s",
        "is a foreign table",
    ),
    "sequence": ("CREATE SEQUENCE x", "is a sequence"),
    "parent": ("CREATE TABLE x (id int PRIMARY KEY); CREATE TABLE y () INHERITS (x)", "inherit from it"),
    "no such table": ("SELECT 1", "does not exist"),
}


@pytest.mark.parametrize("kind", INCURABLE)
def test_a_relation_that_cannot_be_followed(sql: psycopg.Connection, database_url: str, kind: str) -> None:
    create, reason = INCURABLE[kind]
    sql.execute(create)
    report = run_doctor(database_url, "--table", "x")
    assert report.status == 1
    assert report.about(reason).mark == "✗"


def test_system_catalogs(database_url: str) -> None:
    report = run_doctor(database_url, "--table", "pg_catalog.pg_class")
    assert "belongs to the system catalogs" in report.failing()[0].text


def test_a_virtual_generated_column(sql: psycopg.Connection, database_url: str) -> None:
    if sql.info.server_version < 180000:
        pytest.skip("virtual generated columns exist from Postgres 18 on")
    sql.execute("CREATE TABLE x (id int PRIMARY KEY, b int GENERATED ALWAYS AS (id * 2) VIRTUAL)")
    report = run_doctor(database_url, "--table", "x")
    assert "virtual generated column" in report.failing()[0].text
    sql.execute("ALTER TABLE x DROP COLUMN b")
    assert run_doctor(database_url, "--table", "x").status == 0


def test_a_role_that_owns_nothing(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE x (id int PRIMARY KEY)")
    with role(sql, "stranger", SECRET) as name:
        url = as_role(database_url, name, SECRET)
        report = run_doctor(url)
        assert report.status == 1
        said = " ".join(line.text for line in report.failing())
        for reason in (
            "does not have the attribute",
            "may not create it",
            "may not read it",
            "must be owner of table x",
        ):
            assert reason in said
        assert SECRET not in report.output
        run_sql(sql, report)
        cured = run_doctor(url)
        assert cured.status == 0, cured.output


def test_row_level_security(sql: psycopg.Connection, database_url: str) -> None:
    with role(sql, "secured", SECRET, "REPLICATION") as name:
        sql.execute(f"GRANT CREATE ON DATABASE {sql.info.dbname} TO {name}")
        sql.execute(f"CREATE TABLE x (id int PRIMARY KEY); ALTER TABLE x OWNER TO {name}")
        sql.execute("ALTER TABLE x ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        url = as_role(database_url, name, SECRET)
        report = run_doctor(url)
        assert "row-level security" in report.failing()[-1].text
        run_sql(sql, report)
        assert run_doctor(url).status == 0


def test_manual_publishing(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE x (id int PRIMARY KEY)")
    with role(sql, "by_hand", SECRET, "REPLICATION") as name:
        sql.execute(f"GRANT SELECT ON x TO {name}")
        url = as_role(database_url, name, SECRET)
        arguments = ("--manual-table-publishing", "--table", "x")
        report = run_doctor(url, *arguments)
        assert report.about("is missing from the publication").mark == "✗"
        run_sql(sql, report)
        assert run_doctor(url, *arguments).status == 0


def test_the_options_of_the_publication(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE x (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    sql.execute(
        "CREATE PUBLICATION electric_publication_default FOR TABLE x"
        " WITH (publish = 'insert, update', publish_via_partition_root = true)"
    )
    report = run_doctor(database_url)
    assert report.about("does not publish delete, truncate").mark == "✗"
    assert report.about("publish_via_partition_root = true").mark == "✗"
    run_sql(sql, report)
    assert run_doctor(database_url).status == 0


def test_a_row_filter_and_a_schema(sql: psycopg.Connection, database_url: str) -> None:
    if sql.info.server_version < 150000:
        pytest.skip("row filters and TABLES IN SCHEMA exist from Postgres 15 on")
    sql.execute("CREATE TABLE x (id int PRIMARY KEY); CREATE SCHEMA s")
    sql.execute(
        "CREATE PUBLICATION electric_publication_default FOR TABLE x WHERE (id > 5), TABLES IN SCHEMA s"
    )
    report = run_doctor(database_url)
    assert report.about("publishes the tables in schema s").mark == "!"
    assert report.about("row filter").mark == "✗"
    run_sql(sql, report)
    assert run_doctor(database_url).status == 0


def test_a_read_only_database(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute(f"ALTER DATABASE {sql.info.dbname} SET default_transaction_read_only = on")
    line = run_doctor(database_url).about("read-only")
    assert line.mark == "!"
    sql.execute("SET default_transaction_read_only = off")
    sql.execute(line.sql[0])
    assert run_doctor(database_url).about("read-only").mark == "✓"


def test_a_prepared_transaction(sql: psycopg.Connection, database_url: str) -> None:
    for statement in ("BEGIN", "CREATE TABLE x (id int PRIMARY KEY)", "PREPARE TRANSACTION 'it''s left'"):
        sql.execute(statement)
    report = run_doctor(database_url)
    assert report.about("it's left").mark == "✗"
    run_sql(sql, report)
    assert run_doctor(database_url).status == 0


@pytest.mark.slow
def test_a_long_open_transaction(sql: psycopg.Connection, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("CREATE TABLE x (id int PRIMARY KEY)")
        pid = other.info.backend_pid
        until(lambda: f"process {pid} of postgres" in run_doctor(database_url).output, "the warning")
        report = run_doctor(database_url)
        assert report.about(f"process {pid} of").sql == (f"SELECT pg_terminate_backend({pid});",)


def test_a_server_without_logical_wal() -> None:
    with EmbeddedPostgres(settings={"wal_level": "replica"}) as server:
        (line,) = run_doctor(server.url()).failing()
        assert "is replica, must be logical" in line.text
        assert line.sql == ("ALTER SYSTEM SET wal_level = 'logical';",)


def test_a_server_without_a_slot_or_walsender() -> None:
    with EmbeddedPostgres(settings={"max_replication_slots": "1", "max_wal_senders": "0"}) as server:
        with psycopg.connect(server.url(), autocommit=True) as sql:
            sql.execute("SELECT pg_create_logical_replication_slot('other', 'pgoutput')")
        report = run_doctor(server.url())
        assert report.about("0 of 1 replication slots are free").mark == "✗"
        assert "not in use now: other" in report.output
        assert report.about("0 of 0 walsenders are free").mark == "✗"


def test_slots_of_our_name(
    postgres_server: EmbeddedPostgres, sql: psycopg.Connection, database_url: str
) -> None:
    stream = ("--replication-stream-id", sql.info.dbname)
    name = f"electric_slot_{sql.info.dbname}"
    with fresh_database(postgres_server) as elsewhere:
        with psycopg.connect(elsewhere, autocommit=True) as other:
            other.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        assert "set another replication_stream_id" in run_doctor(database_url, *stream).failing()[0].text
    sql.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, true)", (name,))
    report = run_doctor(database_url, *stream)
    assert report.status == 0
    assert report.about("two_phase").mark == "!"


def test_a_standby() -> None:
    with EmbeddedPostgres() as primary, streaming_standby(primary) as standby:
        report = run_doctor(standby.url())
        (line,) = report.failing()
        assert f"is a standby: use the address of the primary at 127.0.0.1:{primary.port}" in line.text
        pooled = run_doctor(primary.url(), "--pooled-database-url", standby.url())
        assert "leads to a standby" in pooled.failing()[0].text


def test_a_pooled_url_of_another_database(postgres_server: EmbeddedPostgres, database_url: str) -> None:
    assert run_doctor(database_url, "--pooled-database-url", database_url).status == 0
    report = run_doctor(database_url, "--pooled-database-url", postgres_server.url())
    assert "another database" in report.failing()[0].text


@contextlib.contextmanager
def pooled_url(url: str, **how: Any) -> Iterator[str]:
    """The URL of the database through a pooler."""
    parts = urlsplit(url)
    assert parts.port is not None
    with pgbouncer(parts.port, {"postgres": parts.password or ""}, **how) as port:
        yield parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()


@pytest.mark.parametrize("pool_size", [1, 3])
def test_a_transaction_pooler(sql: psycopg.Connection, database_url: str, pool_size: int) -> None:
    sql.execute("ALTER ROLE CURRENT_USER IN DATABASE " + sql.info.dbname + " SET statement_timeout = '7s'")
    with pooled_url(database_url, size=pool_size) as pooled:
        (line,) = run_doctor(pooled).failing()
        assert "pooler in transaction mode (unsupported startup parameter: replication)" in line.text
        report = run_doctor(database_url, "--pooled-database-url", pooled)
        assert report.status == 0
        assert "good for snapshots" in report.about("is a pooler in transaction mode").text
        with psycopg.connect(pooled, autocommit=True) as application:
            assert application.execute("SHOW statement_timeout").fetchone() == ("7s",)


@pytest.mark.parametrize("pool_size", [2, 5])
def test_a_session_pooler(database_url: str, pool_size: int) -> None:
    """Also one whose connections are all in use."""
    with pooled_url(database_url, mode="session", size=pool_size) as pooled:
        assert "is a proxy that cannot replicate" in run_doctor(pooled).failing()[0].text


def test_a_database_that_cannot_be_reached(database_url: str) -> None:
    report = run_doctor(as_role(database_url, "postgres", SECRET))
    (line,) = report.lines
    assert line.mark == "✗" and "check user and password" in line.text
    assert report.status == 1
    assert SECRET not in report.output


@pytest.mark.parametrize(
    "arguments",
    [("--table", "a.b.c"), ("--table", ""), ("--nothing",), ("--database-url", "mysql://a@b/c"), ("extra",)],
)
def test_unusable_arguments(database_url: str, arguments: tuple[str, ...]) -> None:
    report = run_doctor(database_url, *arguments)
    assert (report.status, report.lines) == (2, ())
    assert "Traceback" not in report.output


def test_the_environment_of_a_server_will_do(database_url: str) -> None:
    """Also settings that contradict each other, if they do not matter here."""
    variables = {"PGSHAPES_SECRET": "s", "PGSHAPES_INSECURE": "true", "ELECTRIC_PORT": "x"}
    report = run_doctor(database_url, ELECTRIC_REPLICATION_STREAM_ID="mine", **variables)
    assert report.status == 0
    assert report.about("electric_slot_mine").mark == "✓"


def test_an_output_that_has_no_marks(database_url: str) -> None:
    done = run_program(database_url, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"ok database_url")


def test_nothing_is_changed(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE x (id int PRIMARY KEY)")
    run_doctor(database_url)
    assert sql.execute("SELECT 1 FROM pg_publication").fetchall() == []
    identity = sql.execute("SELECT relreplident::text FROM pg_class WHERE relname = 'x'").fetchone()
    assert identity == ("d",)
