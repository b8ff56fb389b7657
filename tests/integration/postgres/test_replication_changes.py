"""Real transactions as fragments: every kind of change, and the same op numbers in a replay."""

from __future__ import annotations

import psycopg
import pytest
from tests.support.postgres.replicated import prepare, replicated

from pgshapes.model.change import Change, Operation

pytestmark = pytest.mark.each_postgres

INSERT, UPDATE, DELETE = Operation.INSERT, Operation.UPDATE, Operation.DELETE


def shapes_of(changes: list[Change]) -> list[tuple[Operation, int, object, object]]:
    return [(change.operation, change.op, change.old, change.new) for change in changes]


async def test_every_kind_of_change(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
    slot = prepare(sql, "t")
    async with replicated(database_url, slot) as got:
        sql.execute("INSERT INTO t VALUES (1, 'a'), (2, NULL)")
        sql.execute("UPDATE t SET name = 'ü' WHERE id = 1")
        sql.execute("UPDATE t SET id = 3 WHERE id = 2")
        sql.execute("DELETE FROM t WHERE id = 1")
        sql.execute("TRUNCATE t")
        await got.until(lambda: len(got.changes) == 6)
    assert shapes_of(got.changes) == [
        (INSERT, 0, None, ("1", "a")),
        (INSERT, 2, None, ("2", None)),
        (UPDATE, 0, ("1", "a"), ("1", "ü")),
        (UPDATE, 0, ("2", None), ("3", None)),
        (DELETE, 0, ("1", "ü"), None),
        (Operation.TRUNCATE, 0, None, None),
    ]
    assert all(fragment.is_first and fragment.is_last for fragment in got.fragments)
    assert all(fragment.end_lsn > fragment.commit_lsn for fragment in got.fragments)
    lsns = [fragment.commit_lsn for fragment in got.fragments]
    assert lsns == sorted(set(lsns))


async def test_each_change_has_the_position_at_which_it_was_written(
    sql: psycopg.Connection, database_url: str
) -> None:
    """Also within a transaction: of subtransactions, and of those that are rolled back."""
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = prepare(sql, "t")
    positions = []
    async with replicated(database_url, slot) as got:
        for statement in (
            "BEGIN",
            "SAVEPOINT a",
            "{}",
            "RELEASE a",
            "{}",
            "SAVEPOINT b",
            "{}",
            "ROLLBACK TO b",
            "{}",
        ):
            if statement == "{}":
                positions.append(insert_position(sql))
            sql.execute(statement.format(f"INSERT INTO t VALUES ({len(positions)})").encode())
        positions.append(insert_position(sql))
        sql.execute("COMMIT")
        await got.until(lambda: len(got.changes) == 3)
    lsns = [change.lsn for change in got.changes]
    assert [change.new for change in got.changes] == [("1",), ("2",), ("4",)]
    assert positions[0] <= lsns[0] < positions[1] <= lsns[1] < positions[2]
    assert positions[3] <= lsns[2] < positions[4]


def insert_position(sql: psycopg.Connection) -> int:
    found = sql.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8").fetchone()
    assert found is not None
    return int(found[0])


async def test_relations_are_announced_before_their_first_change_and_after_ddl(
    sql: psycopg.Connection, database_url: str
) -> None:
    sql.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v varchar(7))")
    slot = prepare(sql, "s.t")
    async with replicated(database_url, slot) as got:
        sql.execute("INSERT INTO s.t VALUES (1, 'a')")
        sql.execute("INSERT INTO s.t VALUES (2, 'b')")
        sql.execute("ALTER TABLE s.t ADD COLUMN more bool")
        sql.execute("INSERT INTO s.t VALUES (3, 'c', true)")
        await got.until(lambda: len(got.changes) == 3)
    # A relation may be announced again without DDL, for example after ANALYZE.
    first, second = dict.fromkeys(got.relations)
    assert (first.schema, first.name, first.replica_identity) == ("s", "t", "f")
    assert [(column.name, column.type_oid, column.typmod) for column in first.columns] == [
        ("id", 23, -1),
        ("v", 1043, 11),
    ]
    assert [column.name for column in second.columns] == ["id", "v", "more"]
    assert got.changes[2].new == ("3", "c", "t")


async def test_an_untouched_large_value_is_whole(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, small int, large text)")
    sql.execute("ALTER TABLE t ALTER COLUMN large SET STORAGE EXTERNAL")
    slot = prepare(sql, "t")
    large = "x" * 20_000
    async with replicated(database_url, slot) as got:
        sql.execute("INSERT INTO t VALUES (1, 1, %s)", (large,))
        sql.execute("UPDATE t SET small = 2")
        sql.execute("DELETE FROM t")
        await got.until(lambda: len(got.changes) == 3)
    assert shapes_of(got.changes)[1:] == [
        (UPDATE, 0, ("1", "1", large), ("1", "2", large)),
        (DELETE, 0, ("1", "2", large), None),
    ]


async def test_rows_of_a_leaf_come_under_the_leaf(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)")
    sql.execute("CREATE TABLE leaf (v text, id int NOT NULL)")
    sql.execute("ALTER TABLE leaf REPLICA IDENTITY FULL")
    sql.execute("ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)")
    slot = prepare(sql, "root")
    async with replicated(database_url, slot) as got:
        sql.execute("INSERT INTO root VALUES (1, 'through the root')")
        sql.execute("INSERT INTO leaf VALUES ('straight', 2)")
        await got.until(lambda: len(got.changes) == 2)
    assert {relation.name for relation in got.relations} == {"leaf"}
    assert [change.new for change in got.changes] == [("through the root", "1"), ("straight", "2")]


async def test_a_prepared_transaction_comes_when_it_is_committed(
    sql: psycopg.Connection, database_url: str
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = prepare(sql, "t")
    gid = f"g_{sql.info.dbname}"
    async with replicated(database_url, slot) as got:
        sql.execute(f"BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{gid}'")
        sql.execute("INSERT INTO t VALUES (2)")
        await got.until(lambda: len(got.changes) == 1)
        sql.execute(f"COMMIT PREPARED '{gid}'")
        await got.until(lambda: len(got.changes) == 2)
    assert [change.new for change in got.changes] == [("2",), ("1",)]


async def test_a_large_transaction_comes_in_pieces(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = prepare(sql, "t")
    async with replicated(database_url, slot, logical_decoding_work_mem="64kB") as got:
        sql.execute("INSERT INTO t SELECT generate_series(1, 20000)")
        await got.until(lambda: len(got.changes) == 20_000 and got.fragments[-1].is_last)
    assert [change.op for change in got.changes] == list(range(0, 40_000, 2))
    assert [change.new for change in got.changes] == [(str(number),) for number in range(1, 20_001)]
    assert len(got.fragments) == 40
    assert [fragment.is_last for fragment in got.fragments] == [False] * 39 + [True]


async def test_a_replay_gives_the_same_numbers(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    slot = prepare(sql, "t")
    with sql.transaction():
        sql.execute("INSERT INTO t VALUES (1, 'kept')")
        with sql.transaction() as inner:
            sql.execute("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(100, 400) i")
            raise psycopg.Rollback(inner)
        with sql.transaction():
            sql.execute("UPDATE t SET v = 'changed'")
        sql.execute("INSERT INTO t VALUES (2, 'last')")
    replays = []
    for memory in ("64MB", "64kB"):
        async with replicated(database_url, slot, logical_decoding_work_mem=memory) as got:
            got.acknowledges = False
            await got.until(lambda: len(got.changes) == 3)
        replays.append((shapes_of(got.changes), got.fragments[-1].commit_lsn))
    assert replays[0] == replays[1]
    assert [op for _, op, _, _ in replays[0][0]] == [0, 2, 4]


async def test_nothing_acknowledged_comes_again(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = prepare(sql, "t")
    async with replicated(database_url, slot) as got:
        sql.execute("INSERT INTO t VALUES (1)")
        await got.until(lambda: len(got.changes) == 1)
    async with replicated(database_url, slot) as again:
        sql.execute("INSERT INTO t VALUES (2)")
        await again.until(lambda: len(again.changes) == 1)
    assert again.changes[0].new == ("2",)


async def test_a_transaction_that_changes_nothing_published_moves_the_position(
    sql: psycopg.Connection, database_url: str
) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE hidden (id int)")
    slot = prepare(sql, "t")
    async with replicated(database_url, slot) as got:
        sql.execute("INSERT INTO hidden VALUES (1)")
        await got.until_caught_up(sql)
        assert got.changes == []
