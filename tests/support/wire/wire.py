"""A walsender connection that has the messages of a test, for the real `ReplicationStream`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from psycopg import pq
from tests.support.wire.envelopes import number_at
from tests.support.wire.mutation import Sent


class Wire:
    """A connection and its libpq object in one. `current` is the message that was read last."""

    nonblocking = 0
    status = pq.ConnStatus.OK

    def __init__(self, sent: Iterable[Sent]) -> None:
        self._sent: Iterator[Sent] = iter(sent)
        self._ours, self._theirs = socket.socketpair()
        self.socket = self._ours.fileno()
        self.pgconn = self
        self.current: Sent | None = None
        self.read: list[Sent] = []
        """The messages before the current one."""
        self.is_used_up = asyncio.Event()
        self.acknowledged = 0
        self._is_ending = False

    async def execute(self, _: bytes) -> Any:
        """As a cursor that has the timeout of the walsender, or the begin of the COPY."""
        return SimpleNamespace(pgresult=SimpleNamespace(status=pq.ExecStatus.COPY_BOTH), fetchone=_timeout)

    def get_copy_data(self, _: int) -> tuple[int, memoryview]:
        """The next message."""
        if self._is_ending:
            return -1, memoryview(b"")
        if self.current is not None:
            self.read.append(self.current)
        self.current = next(self._sent, None)
        if self.current is not None:
            return len(self.current.envelope), memoryview(self.current.envelope)
        self.is_used_up.set()
        return 0, memoryview(b"")

    def put_copy_data(self, status: bytes) -> None:
        """Note what is acknowledged as flushed."""
        self.acknowledged = max(self.acknowledged, number_at(status, 9, 8))

    def put_copy_end(self) -> None:
        """Send nothing more."""
        self._is_ending = True

    def flush(self) -> int:
        """All was sent."""
        return 0

    def consume_input(self) -> None:
        """All was received."""

    async def close(self) -> None:
        """Close the sockets."""
        self._ours.close()
        self._theirs.close()


async def _timeout() -> tuple[int]:
    return (60_000,)
