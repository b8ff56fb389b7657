"""No statement of a table's owner fails because of us, whatever the table and whichever shape is requested.

Each table has a twin that is never requested. The same statements run on both, before the request, after it
and after the shape was removed, and have the same outcomes. A table that is refused is not altered.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until_query
from tests.support.postgres.databases import fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

pytestmark = [pytest.mark.xdist_group("owners' statements"), pytest.mark.each_postgres]

ROWS = (
    "INSERT INTO {t} (id, v) VALUES ({n}, 'a'), ({n} + 1, 'b')",
    "UPDATE {t} SET v = v || 'x'",
    "DELETE FROM {t} WHERE id = {n}",
)
DDL = (
    "ALTER TABLE {t} ADD COLUMN c{n} int DEFAULT 7",
    "INSERT INTO {t} (id, v) VALUES ({n}, 'c')",
    "ALTER TABLE {t} DROP COLUMN c{n}",
    "TRUNCATE {t}",
)
PLAIN = "CREATE TABLE {t} (id int PRIMARY KEY, v text)"
KEYLESS = "CREATE TABLE {t} (id int, v text)"
LIST = "CREATE TABLE {t} (id int, v text, PRIMARY KEY (id)) PARTITION BY LIST (id)"
KEYLESS_LIST = "CREATE TABLE {t} (id int, v text) PARTITION BY LIST (id)"
NEW_LEAVES = (
    "CREATE TABLE {t}_{n} PARTITION OF {t} FOR VALUES IN ({n})",
    "CREATE TABLE {t}_b{n} (LIKE {t} INCLUDING ALL)",
    "INSERT INTO {t}_b{n} VALUES ({n} + 1, 'c')",
    "ALTER TABLE {t} ATTACH PARTITION {t}_b{n} FOR VALUES IN ({n} + 1)",
)
LEAVES_LEAVE = (
    "ALTER TABLE {t} DETACH PARTITION {t}_b{n}",
    "UPDATE {t}_b{n} SET v = 'y'",
    "DROP TABLE {t}_{n}",
)


class Kind(NamedTuple):
    """A kind of table. `refusal` is part of the reason for which it is refused."""

    create: str
    refusal: str | None = None
    statements: tuple[str, ...] = (*ROWS, *DDL)
    since: int = 14


def partitioned(create: str, refusal: str | None = None) -> Kind:
    return Kind(create, refusal, (*NEW_LEAVES, *ROWS, *LEAVES_LEAVE, *DDL))


GENERATED = "CREATE TABLE {t} (id int PRIMARY KEY, v text, g text GENERATED ALWAYS AS (upper(v)) "
ODD = "CREATE TABLE {t} (id int PRIMARY KEY, v text, " + ", ".join(
    f"c{number} {name}"
    for number, name in enumerate(
        [
            "json",
            "jsonb",
            "xml",
            "point",
            "polygon",
            "box",
            "tsvector",
            "money",
            "regclass",
            "bit(3)",
            "inet",
            "macaddr",
            "int4range",
            "int4[]",
            "bytea",
            "interval",
            "timetz",
            "pg_lsn",
            "txid_snapshot",
            "oid",
        ]
    )
)
OTHERS = "CREATE PUBLICATION {p} FOR TABLE {t}"

KINDS = {
    "ordinary": Kind(PLAIN),
    "no key": Kind(KEYLESS, "neither a primary key nor a unique index"),
    "unique index on NOT NULL": Kind("CREATE TABLE {t} (id int NOT NULL UNIQUE, v text)"),
    "unique index on NULL": Kind("CREATE TABLE {t} (id int UNIQUE, v text)", "neither a primary key"),
    "partial unique index": Kind(
        "CREATE TABLE {t} (id int NOT NULL, v text); CREATE UNIQUE INDEX ON {t} (id) WHERE id > 0",
        "neither a primary key",
    ),
    "deferrable key": Kind("CREATE TABLE {t} (id int PRIMARY KEY DEFERRABLE, v text)", "is deferrable"),
    "deferrable key and unique index": Kind(
        "CREATE TABLE {t} (id int NOT NULL UNIQUE, v text, w serial PRIMARY KEY DEFERRABLE)"
    ),
    "stored generated": Kind(GENERATED + "STORED)", since=18),
    "stored generated, added": Kind(
        PLAIN,
        None,
        (
            *ROWS,
            "ALTER TABLE {t} ADD COLUMN g{n} text GENERATED ALWAYS AS (upper(v)) STORED",
            *ROWS[1:],
            "ALTER TABLE {t} DROP COLUMN g{n}",
        ),
    ),
    "virtual generated": Kind(GENERATED + "VIRTUAL)", "virtual generated column", since=18),
    "partitioned": partitioned(LIST),
    "partitioned by hash": Kind(
        "CREATE TABLE {t} (id int PRIMARY KEY, v text) PARTITION BY HASH (id);"
        "CREATE TABLE {t}_0 PARTITION OF {t} FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    ),
    "partitioned, no key": partitioned(KEYLESS_LIST, "is partitioned and has no primary key"),
    "partitioned, unique only": partitioned(
        "CREATE TABLE {t} (id int NOT NULL UNIQUE, v text) PARTITION BY LIST (id)",
        "is partitioned and has no primary key",
    ),
    "partitioned, deferrable": partitioned(
        "CREATE TABLE {t} (id int PRIMARY KEY DEFERRABLE, v text) PARTITION BY LIST (id)",
        "has no primary key that is not deferrable",
    ),
    "multi-level": Kind(
        LIST + ";CREATE TABLE {t}_m PARTITION OF {t} DEFAULT PARTITION BY RANGE (id)",
        None,
        (
            "CREATE TABLE {t}_{n} PARTITION OF {t}_m FOR VALUES FROM ({n}) TO ({n} + 2)",
            *ROWS,
            "DROP TABLE {t}_{n}",
            *DDL[:1],
        ),
    ),
    "leaf": Kind(
        LIST.replace("{t}", "{t}_root") + "; CREATE TABLE {t} PARTITION OF {t}_root DEFAULT",
        None,
        (
            *ROWS,
            *(one.replace("{t}", "{t}_root") for one in ROWS),
            "ALTER TABLE {t}_root DETACH PARTITION {t}",
        ),
    ),
    "leaf, no key": Kind(
        KEYLESS_LIST.replace("{t}", "{t}_root") + "; CREATE TABLE {t} PARTITION OF {t}_root DEFAULT",
        "neither a primary key",
        (*ROWS, *(one.replace("{t}", "{t}_root") for one in ROWS)),
    ),
    "unlogged partition": Kind(
        LIST + "; CREATE UNLOGGED TABLE {t}_u PARTITION OF {t} DEFAULT", "is unlogged", ROWS
    ),
    "inheritance parent": Kind(
        PLAIN + "; CREATE TABLE {t}_child () INHERITS ({t})", "other tables inherit from it"
    ),
    "inheritance child": Kind(
        PLAIN.replace("{t}", "{t}_parent") + "; CREATE TABLE {t} (PRIMARY KEY (id)) INHERITS ({t}_parent)",
        None,
        (*ROWS, *(one.replace("{t}", "{t}_parent") for one in (*ROWS, *DDL))),
    ),
    "unlogged": Kind(PLAIN.replace("TABLE", "UNLOGGED TABLE"), "it is unlogged"),
    "made unlogged after": Kind(
        PLAIN, None, (*ROWS, "TRUNCATE {t}", "DROP TABLE {t}", PLAIN, *ROWS, "DROP TABLE {t}", PLAIN)
    ),
    "foreign": Kind(
        "CREATE FOREIGN TABLE {t} (id int, v text) SERVER nowhere", "it is a foreign table", ROWS
    ),
    "view": Kind(
        PLAIN.replace("{t}", "{t}_b") + "; CREATE VIEW {t} AS SELECT * FROM {t}_b", "it is a view", ROWS
    ),
    "materialized view": Kind(
        "CREATE MATERIALIZED VIEW {t} AS SELECT 1 AS id",
        "it is a materialized view",
        ("REFRESH MATERIALIZED VIEW {t}",),
    ),
    "sequence": Kind("CREATE SEQUENCE {t}", "it is a sequence", ("SELECT nextval('{t}')",)),
    "identity nothing": Kind(PLAIN + "; ALTER TABLE {t} REPLICA IDENTITY NOTHING"),
    "identity full": Kind(PLAIN + "; ALTER TABLE {t} REPLICA IDENTITY FULL"),
    "identity index": Kind(
        "CREATE TABLE {t} (id int NOT NULL, v text); CREATE UNIQUE INDEX {t}_i ON {t} (id);"
        "ALTER TABLE {t} REPLICA IDENTITY USING INDEX {t}_i"
    ),
    "odd types": Kind(ODD + ")"),
    "triggers": Kind(
        PLAIN + "; CREATE TABLE {t}_log (id int); CREATE FUNCTION {t}_f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO {t}_log SELECT NEW.id; UPDATE {t}_log SET id = id + 1; RETURN NEW; END$$;"
        "CREATE TRIGGER x AFTER INSERT OR UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION {t}_f()",
    ),
    "foreign keys": Kind(
        PLAIN.replace("{t}", "{t}_target")
        + "; INSERT INTO {t}_target SELECT i FROM generate_series(1, 1000) i;"
        "CREATE TABLE {t} (id int PRIMARY KEY, v text,"
        " FOREIGN KEY (id) REFERENCES {t}_target ON DELETE CASCADE ON UPDATE CASCADE)",
        None,
        (*ROWS, "UPDATE {t}_target SET id = -id WHERE id = {n} + 1", "DELETE FROM {t}_target WHERE id < 0"),
    ),
    "another publication": Kind(PLAIN + ";" + OTHERS),
    "another publication, row filter": Kind(PLAIN + ";" + OTHERS + " WHERE (id > 5)", since=15),
    "another publication, column list": Kind(
        PLAIN + ";" + OTHERS + " (id)", "because of the publication", since=15
    ),
    "another publication, root with column list": Kind(
        LIST
        + "; CREATE TABLE {t}_d PARTITION OF {t} DEFAULT;"
        + OTHERS
        + " (id) WITH (publish_via_partition_root = true)",
        "because of the publication",
        since=15,
    ),
    "another publication without generated columns": Kind(
        GENERATED + "STORED);" + OTHERS, "because of the publication", since=18
    ),
    "another publication of inserts": Kind(
        PLAIN + ";" + OTHERS + " (id) WITH (publish = 'insert')", since=15
    ),
}
REQUESTS: tuple[dict[str, str], ...] = ({}, {"columns": "id"}, {"where": "id > 0"})

STATE = """
SELECT relname, relreplident,
       EXISTS (SELECT FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
                WHERE m.prrelid = c.oid AND p.pubname LIKE 'electric%%')
  FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relname ~ %s ORDER BY 1"""
LEFT_PUBLICATION = """
SELECT WHERE NOT EXISTS (
  SELECT FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
    JOIN pg_class c ON c.oid = m.prrelid WHERE p.pubname LIKE 'electric%%' AND c.relname ~ %s)"""

_numbers = count(1)


class Environment(NamedTuple):
    """A server, and a session of the owner."""

    server: Server
    sql: psycopg.Connection


@pytest.fixture(scope="module")
def env(postgres_server: EmbeddedPostgres) -> Iterator[Environment]:
    with (
        fresh_database(postgres_server) as url,
        psycopg.connect(url, autocommit=True) as sql,
        running_server(url, allow_delete=True) as server,
    ):
        sql.execute("SET lock_timeout = '10s'; SET client_min_messages = error")
        sql.execute("CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing")
        yield Environment(server, sql)
        sql.execute("DROP FOREIGN DATA WRAPPER nothing CASCADE")


@pytest.mark.parametrize("kind_name", KINDS)
def test_the_owners_statements_work_as_without_us(env: Environment, kind_name: str) -> None:
    kind, version = KINDS[kind_name], env.sql.info.server_version // 10_000
    if version < kind.since:
        pytest.skip(f"not in Postgres {version}")
    number = next(_numbers)
    names = [f"plain{number}x", f"asked{number}x"]
    for name in names:
        env.sql.execute(kind.create.format(t=name, p=f"pub_{name}"))
    compare(env.sql, kind, names, 10)
    before = env.sql.execute(STATE, (names[1],)).fetchall()
    handles = [handle for asked in REQUESTS if (handle := request(env.server, kind, names[1], asked))]
    if kind.refusal is not None:
        assert env.sql.execute(STATE, (names[1],)).fetchall() == before
    compare(env.sql, kind, names, 20)
    for handle in handles:
        answer = httpx.delete(env.server.shape_url, params={"handle": handle}, timeout=60)
        assert answer.status_code in (202, 404), answer.text
    until_query(env.sql, LEFT_PUBLICATION, names[1])
    compare(env.sql, kind, names, 30)


def request(server: Server, kind: Kind, table: str, asked: dict[str, str]) -> str | None:
    """Request a shape; its handle, None if the table is refused as it has to be."""
    answer = httpx.get(server.shape_url, params={"table": table, "offset": "-1", **asked}, timeout=60)
    if kind.refusal is None:
        assert answer.status_code == 200, answer.text
        return answer.headers["electric-handle"]
    assert answer.status_code == 400, answer.text
    assert kind.refusal in answer.json()["errors"]["table"][0]
    return None


def compare(sql: psycopg.Connection, kind: Kind, names: list[str], number: int) -> None:
    """Run the statements on both tables; their outcomes are equal, one by one."""
    for statement in kind.statements:
        plain, asked = (outcome(sql, statement.format(t=name, n=number)) for name in names)
        assert plain == asked, statement


def outcome(sql: psycopg.Connection, statement: str) -> str | None:
    """The SQLSTATE of a statement, None if it succeeds."""
    try:
        sql.execute(statement)
    except psycopg.Error as error:
        return f"{error.sqlstate}"
    return None
