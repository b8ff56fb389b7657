"""Collects the fragments that a real Postgres sends, from a slot of the test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable

import psycopg

from pgshapes.model.change import Change, Fragment
from pgshapes.model.lsn import Lsn
from pgshapes.postgres.connection import connect_for_replication
from pgshapes.postgres.pgoutput import decode_message
from pgshapes.postgres.pgoutput_messages import RelationMessage
from pgshapes.postgres.replication import ReplicationStream
from pgshapes.routing.assembler import Assembled, RelationAnnounced, TransactionAssembler

PUBLICATION = "pub"

_numbers = itertools.count(1)


async def works() -> bool:
    """The answer about a session that may be waited for."""
    return True


def prepare(sql: psycopg.Connection, *tables: str) -> str:
    """Publish the tables with REPLICA IDENTITY FULL and create a slot; return its name."""
    sql.execute(f"CREATE PUBLICATION {PUBLICATION}")
    for table in tables:
        sql.execute(f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {table}")
        sql.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    slot = f"slot_{next(_numbers)}_{sql.info.dbname}"
    sql.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    return slot


class Replicated:
    """The received fragments and announcements, in order."""

    def __init__(self, stream: ReplicationStream) -> None:
        self.stream = stream
        self.pieces: list[Assembled] = []
        self.keepalives: list[Lsn] = []
        self.kinds: Counter[str] = Counter()
        self.acknowledges = True
        self._assembler = TransactionAssembler()
        self._news = asyncio.Event()

    def take(self, payload: bytes, lsn: Lsn) -> None:
        self.kinds[payload[:1].decode()] += 1
        for piece in self._assembler.feed(decode_message(payload), lsn):
            self.pieces.append(piece)
            if self.acknowledges and isinstance(piece, Fragment) and piece.is_last:
                self.stream.acknowledge(piece.end_lsn)
        self._news.set()

    def take_keepalive(self, wal_end: Lsn) -> None:
        self.keepalives.append(wal_end)
        if self.acknowledges:
            self.stream.acknowledge(wal_end)
        self._news.set()

    @property
    def fragments(self) -> list[Fragment]:
        return [piece for piece in self.pieces if isinstance(piece, Fragment)]

    @property
    def changes(self) -> list[Change]:
        return [change for fragment in self.fragments for change in fragment.changes]

    @property
    def relations(self) -> list[RelationMessage]:
        return [piece.message for piece in self.pieces if isinstance(piece, RelationAnnounced)]

    async def until(self, happened: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until received messages make the condition true."""
        async with asyncio.timeout(timeout_s):
            while not happened():
                self._news.clear()
                await self._news.wait()

    async def until_caught_up(self, sql: psycopg.Connection) -> None:
        """Wait until everything committed so far has been received."""
        (wal_end,) = sql.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone() or (0,)
        await self.until(lambda: self.stream.received_lsn >= wal_end)


@contextlib.asynccontextmanager
async def replicated(url: str, slot: str, **options: str) -> AsyncIterator[Replicated]:
    """A running stream; its error is raised at exit."""
    connection = await connect_for_replication(url)
    for name, value in options.items():
        await connection.execute(f"SET {name} = '{value}'".encode())
    async with ReplicationStream(connection, slot=slot, publication=PUBLICATION) as stream:
        await stream.start()
        collected = Replicated(stream)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(stream.run(collected.take, collected.take_keepalive))
            try:
                yield collected
            finally:
                running.cancel()
