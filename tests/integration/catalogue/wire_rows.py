"""Inserted rows as sent by a walsender, for comparison with snapshots."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from pgshapes.model.change import Row
from pgshapes.postgres.connection import Connection, connect_for_replication
from pgshapes.postgres.pgoutput import decode_message
from pgshapes.postgres.pgoutput_messages import Begin, Insert, Unchanged

_DATA_HEADER = struct.calcsize("!cQQQ")


class Told(NamedTuple):
    """An inserted row and its transaction."""

    xid: int
    row: Row


class Walsender:
    """The inserts that a slot delivers from its creation on."""

    def __init__(self, connection: Connection, publication: str) -> None:
        self._connection = connection
        self._publication = publication
        self._is_started = False
        self._xid = 0

    async def inserts(self, count: int) -> list[Row]:
        """The next `count` inserted rows, in order."""
        return [(await self.next_insert()).row for _ in range(count)]

    async def next_insert(self) -> Told:
        """The next inserted row."""
        await self._start()
        while True:
            message = decode_message((await self._next_data())[_DATA_HEADER:])
            if isinstance(message, Begin):
                self._xid = message.xid
            if isinstance(message, Insert):
                return Told(self._xid, tuple(_sent(value) for value in message.new))

    async def _start(self) -> None:
        if not self._is_started:
            await self._connection.execute(
                f"START_REPLICATION SLOT {self._publication} LOGICAL 0/0"
                f" (proto_version '1', publication_names '{self._publication}')".encode()
            )
            self._is_started = True

    async def _next_data(self) -> bytes:
        wire = self._connection.pgconn
        while True:
            size, data = wire.get_copy_data(1)
            if size > 0 and bytes(data[:1]) == b"w":
                return bytes(data)
            if size == 0:
                await asyncio.sleep(0.001)
                wire.consume_input()


def _sent(value: str | Unchanged | None) -> str | None:
    assert not isinstance(value, Unchanged), "an insert has all its values"
    return value


@asynccontextmanager
async def walsender(url: str, publication: str) -> AsyncIterator[Walsender]:
    """A temporary slot with the publication's name."""
    connection = await connect_for_replication(url)
    try:
        await connection.execute(
            f"CREATE_REPLICATION_SLOT {publication} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT".encode()
        )
        yield Walsender(connection, publication)
    finally:
        connection.pgconn.finish()
