"""Causes that waiting does not cure: a 400 that names the table, and one line in the log with what to run.

What a refused table or publication is like is tested without a server in `test_followable` and
`test_publication_sql`; the statements of owners in `test_owners_statements`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

pytestmark = [pytest.mark.xdist_group("refused tables"), pytest.mark.each_postgres]

_numbers = count(1)


class Environment(NamedTuple):
    """A server whose role `app` owns nothing but its tables, and a session of a superuser."""

    server: Server
    sql: psycopg.Connection
    role: str

    def ask(self, table: str, **params: str) -> httpx.Response:
        """Request a shape from its start, or with other parameters."""
        query = {"table": table, "offset": "-1", **params}
        return httpx.get(self.server.shape_url, params=query, timeout=60)

    def refusal(self, table: str, field: str = "table", **params: str) -> str:
        """The only text of a 400."""
        answer = self.ask(table, **params)
        assert answer.status_code == 400, answer.text
        ((found, (text,)),) = answer.json()["errors"].items()
        assert found == field
        return str(text)

    def is_served(self, table: str, **params: str) -> bool:
        return self.ask(table, **params).status_code == 200

    def await_served(self, table: str) -> httpx.Response:
        """The answer once the table can be followed; a refusal answers requests for a second."""
        until(lambda: self.is_served(table), "the end of the refusal, which answers requests for a second")
        return self.ask(table)

    def logged(self, table: str) -> list[str]:
        """The lines about a table that cannot be followed."""
        lines = self.server.log_path.read_text().splitlines()
        return [line for line in lines if "cannot be followed" in line and f"table='public.{table}'" in line]

    def table(self, definition: str = "(id int PRIMARY KEY, v int)") -> str:
        """A new table of the role, with one row."""
        name = f"t{next(_numbers)}"
        self.sql.execute(f"CREATE TABLE {name} {definition}; ALTER TABLE {name} OWNER TO {self.role}")
        self.sql.execute(f"INSERT INTO {name} VALUES (1)")
        return name


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(0, id="one process"),
        pytest.param(1, id="a worker", marks=pytest.mark.default_postgres),
    ],
)
def env(postgres_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[Environment]:
    with fresh_database(postgres_server) as url, psycopg.connect(url, autocommit=True) as sql:
        name = sql.info.dbname
        role = f"app_{name}"
        sql.execute(f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'x'")
        sql.execute(f"GRANT CREATE ON DATABASE {name} TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
        own = re.sub(r"//[^@]*@", f"//{role}:x@", url)
        with running_server(own, workers=request.param, allow_delete=True) as server:
            yield Environment(server, sql, role)
        sql.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_a_table_of_somebody_else(env: Environment) -> None:
    table = f"t{next(_numbers)}"
    env.sql.execute(f"CREATE TABLE {table} (id int PRIMARY KEY); GRANT SELECT ON {table} TO {env.role}")
    assert f"must be owner of table {table}" in env.refusal(table)
    assert f"must be owner of table {table}" in env.refusal(table, where="id > 0")
    (line,) = env.logged(table)
    assert f'ALTER TABLE "public"."{table}" OWNER TO {env.role}' in line
    assert f'ADD TABLE "public"."{table}"' in line
    env.sql.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    env.sql.execute(f"ALTER PUBLICATION {env.server.publication} ADD TABLE {table}")
    env.await_served(table)


def test_a_table_that_may_not_be_read(env: Environment) -> None:
    table = env.table()
    env.sql.execute(f"REVOKE SELECT ON {table} FROM {env.role}")
    assert "may not read it" in env.refusal(table)
    (line,) = env.logged(table)
    assert f'GRANT SELECT ON "public"."{table}" TO {env.role}' in line
    env.sql.execute(f"GRANT SELECT ON {table} TO {env.role}")
    env.await_served(table)


def test_a_schema_that_may_not_be_used(env: Environment) -> None:
    env.sql.execute("CREATE SCHEMA closed; CREATE TABLE closed.t (id int PRIMARY KEY)")
    env.sql.execute(f"ALTER TABLE closed.t OWNER TO {env.role}")
    assert "lacks USAGE on its schema" in env.refusal("closed.t")
    assert "lacks USAGE on its schema" in env.refusal("closed.t", where="id > 0")
    env.sql.execute(f"GRANT USAGE ON SCHEMA closed TO {env.role}")
    env.await_served("closed.t")


def test_a_right_that_comes_with_the_membership_of_a_role(env: Environment) -> None:
    """Neither its grant nor its end changes a row of the table's."""
    readers = f"readers_{env.role}"
    table = env.table()
    env.sql.execute(f"CREATE ROLE {readers}; GRANT SELECT ON {table} TO {readers}")
    env.sql.execute(f"REVOKE SELECT ON {table} FROM {env.role}")
    try:
        assert "may not read it" in env.refusal(table)
        env.sql.execute(f"GRANT {readers} TO {env.role}")
        follower = env.await_served(table)
        env.sql.execute(f"REVOKE {readers} FROM {env.role}")
        until(lambda: env.ask(table).status_code == 400, "the end of the right")
        assert_ended(env, table, follower)
    finally:
        env.sql.execute(f"DROP OWNED BY {readers}; DROP ROLE {readers}")


@pytest.mark.parametrize(
    ("change", "undo", "reason"),
    [
        ("REVOKE SELECT ON {t} FROM {role}", "GRANT SELECT ON {t} TO {role}", "may not read it"),
        (
            "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            "ALTER TABLE {t} DISABLE ROW LEVEL SECURITY",
            "row-level security",
        ),
        ("CREATE TABLE {t}_child () INHERITS ({t})", "DROP TABLE {t}_child", "inherit from it"),
        ("ALTER TABLE {t} DROP CONSTRAINT {t}_pkey", "ALTER TABLE {t} ADD PRIMARY KEY (id)", "primary key"),
    ],
)
def test_a_table_that_cannot_be_followed_any_more(
    env: Environment, change: str, undo: str, reason: str
) -> None:
    table = env.table()
    follower = env.ask(table)
    assert follower.status_code == 200
    env.sql.execute(change.format(t=table, role=env.role))
    until(lambda: env.ask(table).status_code == 400, "the refusal")
    assert_ended(env, table, follower)
    assert reason in env.refusal(table)
    (line,) = env.logged(table)
    assert reason in line
    env.sql.execute(undo.format(t=table, role=env.role))
    env.await_served(table)


def assert_ended(env: Environment, table: str, follower: httpx.Response) -> None:
    """A client between two polls gets a 409; the 400 is for its next first request."""
    at = {name: follower.headers[f"electric-{name}"] for name in ("handle", "offset")}
    assert env.ask(table, **at).status_code == 409
    assert env.ask(table, handle=at["handle"]).status_code == 400


def test_a_virtual_column_is_noticed_and_writes_work_again(env: Environment) -> None:
    if env.sql.info.server_version < 180_000:
        pytest.skip("no virtual columns")
    table = env.table()
    assert env.is_served(table)
    env.sql.execute(f"ALTER TABLE {table} ADD COLUMN g int GENERATED ALWAYS AS (id * 2)")
    until(lambda: succeeds(env.sql, f"UPDATE {table} SET v = 2"), "an UPDATE of the owner")
    assert "virtual generated column" in env.refusal(table)


def test_a_partitioned_table_that_loses_its_key_leaves_the_publication(env: Environment) -> None:
    name = f"t{next(_numbers)}"
    env.sql.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v int) PARTITION BY LIST (id)")
    env.sql.execute(f"CREATE TABLE {name}_1 PARTITION OF {name} FOR VALUES IN (1)")
    for one in (name, f"{name}_1"):
        env.sql.execute(f"ALTER TABLE {one} OWNER TO {env.role}")
    assert env.is_served(name)
    env.sql.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_pkey")
    env.sql.execute(f"CREATE TABLE {name}_2 PARTITION OF {name} FOR VALUES IN (2)")
    env.sql.execute(f"INSERT INTO {name} VALUES (2)")
    until(lambda: succeeds(env.sql, f"UPDATE {name} SET v = 2"), "an UPDATE of the owner")


def succeeds(sql: psycopg.Connection, statement: str) -> bool:
    try:
        sql.execute(statement)
    except psycopg.Error:
        return False
    return True


def test_columns_of_which_only_some_may_be_read(env: Environment) -> None:
    table = env.table("(id int PRIMARY KEY, v int, secret int)")
    env.sql.execute(
        f"REVOKE SELECT ON {table} FROM {env.role}; GRANT SELECT (id, v) ON {table} TO {env.role}"
    )
    text = "The role of the server may not read the following columns: secret"
    assert env.refusal(table, "columns") == text
    assert env.refusal(table, "columns", columns="id", where="secret > 0") == text
    assert rows_from_start(env, table, columns="id,v") == ["1"]
    subset = env.ask(table, columns="id,v", subset__limit="1", subset__order_by="id")
    assert [one["value"]["id"] for one in subset.json()["data"]] == ["1"]
    env.sql.execute(f"REVOKE SELECT (v) ON {table} FROM {env.role}")
    until(lambda: env.ask(table, columns="id,v").status_code == 400, "the end of the right")


BY_ZERO = "fails for a row of the table: division by zero (SQLSTATE 22012)"


def test_a_clause_that_fails_for_a_row(env: Environment) -> None:
    table = env.table()
    assert env.refusal(table, "where", where="1 / (id - 1) > 0") == BY_ZERO


def test_an_error_of_a_row_quotes_no_value_to_clients(env: Environment) -> None:
    """The column was not asked for. The text of Postgres, which has the value, is in the log."""
    table = env.table("(id int PRIMARY KEY, secret text)")
    env.sql.execute(f"UPDATE {table} SET secret = 'hidden4711'")
    clause = "secret::uuid IS NOT NULL"
    asked = env.ask(table, columns="id", where=clause)
    subset = env.ask(table, columns="id", subset__where=clause, subset__limit="1", subset__order_by="id")
    for answer in (asked, subset):
        assert answer.status_code == 400, answer.text
        assert "invalid text representation (SQLSTATE 22P02)" in answer.text
        assert "hidden" not in answer.text
    assert "hidden" not in env.ask(table, columns="id", where="id = 'x'::int").text
    assert "hidden4711" in env.server.log_path.read_text()


def test_a_clause_that_fails_for_a_late_row(env: Environment) -> None:
    """Its first rows were sent, so clients refetch once; then they get the reason."""
    table = env.table()
    env.sql.execute(f"INSERT INTO {table} SELECT i FROM generate_series(2, 200000) i")
    clause = "1 / (id - 199999) > -5"

    def is_refused() -> bool:
        try:
            return env.ask(table, where=clause).status_code == 400
        except httpx.RemoteProtocolError:  # the rows were removed while they were sent
            return False

    until(is_refused, "the reason")
    # A request with a handle that is not in use any more gets a 409 first, then the reason again.
    assert env.ask(table, where=clause, handle="1", offset="0_0").status_code == 409
    assert env.refusal(table, "where", where=clause) == BY_ZERO


def test_a_domain_over_a_type_that_clauses_do_not_know(env: Environment) -> None:
    env.sql.execute(
        "CREATE TYPE strange;"
        "CREATE FUNCTION strange_in(cstring) RETURNS strange IMMUTABLE STRICT LANGUAGE internal AS 'textin';"
        "CREATE FUNCTION strange_out(strange) RETURNS cstring IMMUTABLE STRICT"
        " LANGUAGE internal AS 'textout';"
        "CREATE TYPE strange (INPUT = strange_in, OUTPUT = strange_out, LIKE = text);"
        "CREATE DOMAIN domain_of_strange AS strange"
    )
    table = env.table("(id int PRIMARY KEY, v domain_of_strange)")
    assert rows_from_start(env, table, where="v IS NULL") == ["1"]


def test_a_role_that_is_read_only_by_default(postgres_server: EmbeddedPostgres) -> None:
    with fresh_database(postgres_server) as url, psycopg.connect(url, autocommit=True) as sql:
        sql.execute(f"ALTER DATABASE {sql.info.dbname} SET default_transaction_read_only = on")
        sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with running_server(url) as server:
            answer = httpx.get(server.shape_url, params={"table": "t", "offset": "-1"}, timeout=60)
            assert answer.status_code == 200, answer.text


def test_tables_without_a_key_if_they_are_allowed(postgres_server: EmbeddedPostgres) -> None:
    settings: dict[str, Any] = {"allow_tables_without_key": True}
    with fresh_database(postgres_server) as url, psycopg.connect(url, autocommit=True) as sql:
        sql.execute("CREATE TABLE t (v int); INSERT INTO t VALUES (1), (2)")
        sql.execute("CREATE TABLE root (v int) PARTITION BY LIST (v)")
        with running_server(url, **settings) as server:
            answer = httpx.get(server.shape_url, params={"table": "t", "offset": "-1"}, timeout=60)
            assert answer.status_code == 200, answer.text
            answer = httpx.get(server.shape_url, params={"table": "root", "offset": "-1"}, timeout=60)
            assert answer.status_code == 400, answer.text


def test_a_table_dropped_and_made_again_is_served_at_once(env: Environment) -> None:
    """A first request gets the new rows, not a 409 without a handle."""
    table = env.table()
    for value in range(2, 6):
        gone = env.ask(table).headers["electric-handle"]
        assert httpx.delete(env.server.shape_url, params={"handle": gone}).status_code == 202
        env.sql.execute(f"DROP TABLE {table}; CREATE TABLE {table} (id int PRIMARY KEY, w text)")
        env.sql.execute(f"ALTER TABLE {table} OWNER TO {env.role}; INSERT INTO {table} VALUES ({value})")
        assert rows_from_start(env, table) == [str(value)]


def rows_from_start(env: Environment, table: str, **params: str) -> list[str]:
    """The ids of all rows of a shape; every answer is a 200."""
    rows, at = [], {"offset": "-1"}
    while True:
        answer = env.ask(table, **params, **at)
        assert answer.status_code == 200, answer.text
        rows += [one["value"]["id"] for one in answer.json() if "value" in one]
        if "electric-up-to-date" in answer.headers:
            return rows
        at = {name: answer.headers[f"electric-{name}"] for name in ("handle", "offset")}
