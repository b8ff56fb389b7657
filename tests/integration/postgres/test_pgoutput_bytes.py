"""Decoding the messages of a real server: every kind of protocol version 1, none of version 2."""

from __future__ import annotations

import psycopg
import pytest
from tests.support.postgres.replicated import PUBLICATION, prepare

from pgshapes.errors import WireError
from pgshapes.postgres.pgoutput import decode_message
from pgshapes.postgres.pgoutput_messages import (
    Begin,
    Commit,
    Delete,
    Identity,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    RelationMessage,
    Truncate,
    TypeMessage,
    Update,
)

pytestmark = pytest.mark.each_postgres


def peek(sql: psycopg.Connection, slot: str, **options: str) -> list[Message]:
    """The decoded changes in the slot."""
    options = {"publication_names": PUBLICATION, **options}
    listed = ", ".join(f"'{name}', '{value}'" for name, value in options.items())
    rows = sql.execute(
        f"SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, {listed})", (slot,)
    )
    return [decode_message(bytes(data)) for (data,) in rows]


def test_protocol_1_has_whole_transactions(sql: psycopg.Connection) -> None:
    sql.execute("CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE t (id int PRIMARY KEY, m mood, v text)")
    slot = prepare(sql, "t")
    sql.execute("ALTER TABLE t REPLICA IDENTITY DEFAULT")
    with sql.transaction():
        sql.execute("INSERT INTO t VALUES (1, 'fine', NULL)")
        sql.execute("UPDATE t SET v = 'x'")
        sql.execute("UPDATE t SET id = 2")
        sql.execute("SELECT pg_logical_emit_message(true, 'note', 'content')")
        sql.execute("DELETE FROM t")
        sql.execute("TRUNCATE t RESTART IDENTITY CASCADE")
    messages = peek(sql, slot, proto_version="1", messages="true")
    if sql.info.server_version < 150000:
        # Older servers send transactions that changed nothing published, such as the ALTER TABLE.
        assert [type(message) for message in messages[:2]] == [Begin, Commit]
        messages = messages[2:]
    assert [type(message) for message in messages] == [
        Begin,
        TypeMessage,
        RelationMessage,
        Insert,
        Update,
        Update,
        LogicalMessage,
        Delete,
        TypeMessage,
        RelationMessage,
        Truncate,
        Commit,
    ]
    begin, mood, relation, insert, update, rekey, note, delete, _, again, truncate, commit = messages
    assert again == relation
    assert isinstance(begin, Begin) and isinstance(commit, Commit)
    assert begin.final_lsn == commit.commit_lsn < commit.end_lsn
    assert isinstance(mood, TypeMessage) and mood.name == "mood"
    assert isinstance(relation, RelationMessage) and relation.columns[0].is_key
    oid = relation.oid
    assert insert == Insert(oid, ("1", "fine", None))
    assert update == Update(oid, None, None, ("1", "fine", "x"))
    assert rekey == Update(oid, Identity.KEY, ("1", None, None), ("2", "fine", "x"))
    assert delete == Delete(oid, Identity.KEY, ("2", None, None))
    assert truncate == Truncate((oid,), True, True)
    assert isinstance(note, LogicalMessage)
    assert (note.is_transactional, note.prefix, note.content) == (True, "note", b"content")


def test_protocol_2_is_refused(sql: psycopg.Connection) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    slot = prepare(sql, "t")
    sql.execute("SET logical_decoding_work_mem = '64kB'")
    sql.execute("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i")
    with pytest.raises(WireError, match="unknown kind of pgoutput message b'S'"):
        peek(sql, slot, proto_version="2", streaming="on")


def test_a_transaction_with_an_origin(sql: psycopg.Connection) -> None:
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    slot = prepare(sql, "t")
    origin = f"origin_{sql.info.dbname}"
    sql.execute("SELECT pg_replication_origin_create(%s)", (origin,))
    try:
        sql.execute("SELECT pg_replication_origin_session_setup(%s)", (origin,))
        with sql.transaction():
            sql.execute("SELECT pg_replication_origin_xact_setup('0/ABC', now())")
            sql.execute("INSERT INTO t VALUES (1)")
        sql.execute("SELECT pg_replication_origin_session_reset()")
        assert Origin(0xABC, origin) in peek(sql, slot, proto_version="1")
    finally:
        sql.execute("SELECT pg_replication_origin_drop(%s)", (origin,))
