"""What a real Postgres sends for transactions of all kinds, in each version of the protocol, as bytes.

The workload has changes of many types, changed keys, unchanged TOAST values, truncates, partitions with
columns in another order, tables without FULL, logical messages, an origin, DDL, large and prepared
transactions. A bystander table has rows in every other transaction.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import psycopg
from psycopg import pq
from tests.support.wire.envelopes import lsn_of, number_at, oid_of, payload_of

from pgshapes.model.relation import Relation
from pgshapes.postgres.connection import ConnectionPool, connect
from pgshapes.postgres.inspector import Inspector

BYSTANDER: Final = "bystander"
FOLLOWED: Final = ("typed", "stored", "keyed", "parted", "emptied", BYSTANDER)
"""The tables on which there are shapes."""
LEAVES: Final = ("parted_1", "parted_2")
_PUBLICATION: Final = "recorded"
_SETUP: Final = f"""
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (x int, y text);
CREATE TABLE typed (id int PRIMARY KEY, i2 int2, i8 int8, n numeric, f8 float8, b bool, t text,
  v varchar(20), by bytea, ts timestamptz, d date, iv interval, u uuid, j jsonb, ai int[], at text[],
  m mood, p positive, c pair);
CREATE TABLE stored (id int PRIMARY KEY, big text, n int);
ALTER TABLE stored ALTER big SET STORAGE EXTERNAL;
CREATE TABLE keyed (a int, k text, v text, PRIMARY KEY (a, k));
CREATE TABLE parted (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 (v text, part int NOT NULL, id int NOT NULL, PRIMARY KEY (id, part));
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES IN (2);
CREATE TABLE emptied (id int PRIMARY KEY, v text);
CREATE TABLE emptied_too (id int PRIMARY KEY REFERENCES emptied);
CREATE TABLE unidentified (id int PRIMARY KEY, v text);
CREATE TABLE altered (id int PRIMARY KEY, v text);
CREATE SEQUENCE noted;
CREATE TABLE {BYSTANDER} (id int PRIMARY KEY, note text);
ALTER TABLE typed REPLICA IDENTITY FULL;
ALTER TABLE stored REPLICA IDENTITY FULL;
ALTER TABLE keyed REPLICA IDENTITY FULL;
ALTER TABLE parted REPLICA IDENTITY FULL;
ALTER TABLE parted_1 REPLICA IDENTITY FULL;
ALTER TABLE parted_2 REPLICA IDENTITY FULL;
ALTER TABLE emptied REPLICA IDENTITY FULL;
ALTER TABLE altered REPLICA IDENTITY FULL;
ALTER TABLE {BYSTANDER} REPLICA IDENTITY FULL;
SELECT pg_replication_origin_create('elsewhere');
CREATE PUBLICATION {_PUBLICATION} FOR ALL TABLES
"""


class Transaction(NamedTuple):
    """A committed transaction: XLogData from BEGIN to COMMIT, without announcements."""

    final_lsn: int
    end_lsn: int
    envelopes: tuple[bytes, ...]


class Recording(NamedTuple):
    """What was sent."""

    transactions: tuple[Transaction, ...]
    announcements: dict[int, tuple[bytes, ...]]
    """By relation, the TYPE and RELATION messages that precede its first change, as XLogData."""
    foreign: tuple[bytes, ...]
    """Messages of the later versions of the protocol, with streamed and prepared transactions."""
    relations: dict[str, Relation]

    def served(self, start_lsn: int, transactions: Sequence[Transaction]) -> Iterator[bytes]:
        """What Postgres would send of these on a new connection that starts there."""
        announced: set[int] = set()
        for transaction in transactions:
            if transaction.final_lsn >= start_lsn:
                for envelope in transaction.envelopes:
                    yield from self._announced(payload_of(envelope), announced)
                    yield envelope

    def _announced(self, payload: bytes, announced: set[int]) -> Iterator[bytes]:
        """The announcements that are due before a message."""
        for oid in named(payload):
            if oid not in announced:
                announced.add(oid)
                yield from self.announcements[oid]


def named(payload: bytes) -> tuple[int, ...]:
    """The relations whose rows a message changes."""
    if payload[:1] in (b"I", b"U", b"D"):
        return (oid_of(payload),)
    count = number_at(payload, 1, 4)
    return tuple(number_at(payload, 6 + 4 * n, 4) for n in range(count)) if payload[:1] == b"T" else ()


async def record(url: str) -> Recording:
    """Run the workload on a new database and record what is sent for it."""
    with psycopg.connect(url, autocommit=True) as sql:
        sql.execute(_SETUP)
        version = sql.info.server_version
        slots = {"plain": False, "prepared": True} if version >= 150_000 else {"plain": False}
        for slot, is_two_phase in slots.items():
            create = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, %s)"
            sql.execute(create, (f"rec_{slot}_{sql.info.dbname}", is_two_phase))
        _work(sql)
        relations = await _describe(url)
        plain = _received(url, f"rec_plain_{sql.info.dbname}", "proto_version '1', messages 'true'")
        foreign: list[bytes] = []
        for options in _later_versions(version):
            slot = "prepared" if "two_phase" in options else "plain"
            foreign += _received(url, f"rec_{slot}_{sql.info.dbname}", options)
    return _arranged(plain, foreign, relations)


def _later_versions(version: int) -> list[str]:
    found = ["proto_version '2', streaming 'true', messages 'true'"]
    if version >= 150_000:
        found.append("proto_version '3', streaming 'true', two_phase 'true'")
    if version >= 160_000:
        found.append("proto_version '4', streaming 'parallel', two_phase 'true', binary 'true'")
    return found


def _work(sql: psycopg.Connection) -> None:
    for number in range(12):
        for statements in _transactions(number):
            with sql.transaction():
                for statement in statements:
                    sql.execute(statement)
                if number % 2:
                    sql.execute(f"INSERT INTO {BYSTANDER} VALUES (nextval('noted'), 'one')")
    # last, because streamed and prepared transactions are wanted in the later versions only
    with sql.transaction():
        sql.execute("INSERT INTO stored SELECT i, repeat('x', 3000), i FROM generate_series(1000, 1030) i")
    sql.execute("BEGIN")
    sql.execute("INSERT INTO keyed VALUES (-1, 'prepared', 'v')")
    sql.execute("PREPARE TRANSACTION 'one'")
    sql.execute("COMMIT PREPARED 'one'")
    sql.execute("BEGIN")
    sql.execute("INSERT INTO keyed SELECT -2, i::text, repeat('z', 300) FROM generate_series(1, 400) i")
    sql.execute("PREPARE TRANSACTION 'two'")
    sql.execute("COMMIT PREPARED 'two'")
    sql.execute("BEGIN")
    sql.execute("INSERT INTO keyed VALUES (-3, 'prepared', 'v')")
    sql.execute("PREPARE TRANSACTION 'three'")
    sql.execute("ROLLBACK PREPARED 'three'")
    with sql.transaction():
        sql.execute("INSERT INTO stored SELECT i, repeat('y', 3000), i FROM generate_series(2000, 2060) i")
        with sql.transaction() as inner:
            sql.execute("INSERT INTO keyed SELECT i, 'k', 'v' FROM generate_series(2000, 3000) i")
            raise psycopg.Rollback(inner)


def _transactions(n: int) -> Iterator[list[str]]:
    """Lists of statements, a list for each transaction."""
    made = f"({n}, {n}, {n * 10**9}, {n}.50, 1e{n}, {n % 2 == 0}, 'text {n} é', 'v{n}', '\\x00ff{n:02x}'"
    made += f", '2024-02-{n + 1} 10:00+00', '2024-01-{n + 1}', '{n} days', md5('{n}')::uuid"
    made += f""", '{{"x": [{n}, null], "é": "\\"q\\""}}', '{{{n},NULL}}', '{{"a,b",NULL,é}}', 'ok'"""
    made += f", {n + 1}, ({n}, 'y'))"
    yield [
        f"INSERT INTO typed VALUES {made}",
        f"INSERT INTO typed (id) VALUES ({n + 100})",
        f"UPDATE typed SET t = NULL, m = 'sad', id = id + 200 WHERE id = {n}",
    ]
    yield [
        f"INSERT INTO stored VALUES ({n}, repeat('toasted {n} ', 400), {n})",
        f"UPDATE stored SET n = n + 1 WHERE id = {n}",
        f"INSERT INTO {BYSTANDER} VALUES (nextval('noted'), 'x'), (nextval('noted'), 'y')",
        f"UPDATE {BYSTANDER} SET note = note || {n} WHERE id % 5 = {n % 5}",
        f"DELETE FROM {BYSTANDER} WHERE id % 11 = {n % 11}",
    ]
    yield [
        f"INSERT INTO keyed SELECT {n}, 'k' || i, 'v' FROM generate_series(1, 5) i",
        f"UPDATE keyed SET k = k || '!', v = 'moved' WHERE a = {n} AND k < 'k3'",
        f"DELETE FROM keyed WHERE a = {n - 1}",
    ]
    yield [
        f"INSERT INTO parted VALUES ({n}, 1, 'one'), ({n}, 2, 'two')",
        f"UPDATE parted SET v = v || 'x' WHERE id = {n}",
        f"UPDATE parted SET part = 3 - part WHERE id = {n} AND part = 1 AND id % 3 = 0"
        if n % 3
        else "SELECT 1",
        f"DELETE FROM parted WHERE id = {n - 2}",
    ]
    yield [
        f"INSERT INTO emptied VALUES ({n}, 'v')",
        f"INSERT INTO unidentified VALUES ({n}, 'v')",
        f"UPDATE unidentified SET v = 'w' WHERE id = {n}",
        f"UPDATE unidentified SET id = id + 1000 WHERE id = {n}",
        f"DELETE FROM unidentified WHERE id = {n + 1000}",
        f"SELECT pg_logical_emit_message(true, 'in {n}', 'content')",
        f"SELECT pg_logical_emit_message(false, 'out {n}', '')",
    ]
    if n % 4 == 3:
        yield ["TRUNCATE emptied CASCADE", f"INSERT INTO emptied VALUES ({n}, 'after')"]
        yield [f"ALTER TABLE altered ADD c{n} int", f"INSERT INTO altered VALUES ({n}, 'v', 1)"]
    if n == 5:
        yield [
            "SELECT pg_replication_origin_session_setup('elsewhere')",
            "SELECT pg_replication_origin_xact_setup('0/ABC', now())",
            f"INSERT INTO {BYSTANDER} VALUES (nextval('noted'), 'replicated')",
        ]
        yield ["SELECT pg_replication_origin_session_reset()"]


async def _describe(url: str) -> dict[str, Relation]:
    pool = ConnectionPool(lambda: connect(url), 1)
    inspector = Inspector(pool)
    try:
        return {name: await inspector.relation("public", name) for name in (*FOLLOWED, *LEAVES)}
    finally:
        await inspector.close()
        await pool.close()


def _received(url: str, slot: str, options: str) -> list[bytes]:
    """All that is sent from a slot, which stays where it is."""
    with psycopg.connect(f"{url}?replication=database", autocommit=True) as walsender:
        walsender.execute("SET logical_decoding_work_mem = '64kB'")
        row = walsender.execute("SELECT pg_catalog.pg_current_wal_insert_lsn() - '0/0'").fetchone()
        assert row is not None
        pgconn, wal_end, found = walsender.pgconn, int(row[0]), list[bytes]()
        command = f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options}, publication_names '{_PUBLICATION}')"
        result = pgconn.exec_(command.encode())
        assert result.status == pq.ExecStatus.COPY_BOTH, result.error_message
        while not found or lsn_of(found[-1]) < wal_end or found[-1][:1] != b"k":
            size, data = pgconn.get_copy_data(1)
            if size > 0:
                found.append(bytes(data))
            else:
                assert size == 0, pgconn.error_message
                select.select([pgconn.socket], [], [], 10)
                pgconn.consume_input()
        pgconn.finish()
    return found


def _arranged(plain: list[bytes], foreign: list[bytes], relations: dict[str, Relation]) -> Recording:
    transactions: list[Transaction] = []
    announcements: dict[int, tuple[bytes, ...]] = {}
    current: list[bytes] = []
    due: list[bytes] = []
    for envelope in plain:
        payload = payload_of(envelope)
        kind = payload[:1]
        if kind in (b"Y", b"R"):
            due.append(envelope)
            if kind == b"R":
                # That of `altered` changes: only its last columns are sent again, which fit its last rows.
                announcements[oid_of(payload)] = tuple(due)
                due = []
            continue
        if payload:
            current.append(envelope)
        if kind == b"C":
            final_lsn, end_lsn = number_at(payload, 2, 8), number_at(payload, 10, 8)
            transactions.append(Transaction(final_lsn, end_lsn, tuple(current)))
            current = []
    kinds = {payload_of(envelope)[:1] for envelope in foreign}
    kept = tuple(envelope for envelope in foreign if payload_of(envelope))
    assert kinds >= {b"S", b"E", b"c"}, kinds
    return Recording(tuple(transactions), announcements, kept, relations)
