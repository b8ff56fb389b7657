"""A cache of response bodies, keyed by handle, offset and end of the log.

State: the bodies, limited by their total size, with the least recently used evicted; and which pieces are
being read. One application owns one cache, in one event loop. Invariants: an entry never becomes invalid,
because handles are never reused, closed chunks never change, and the key of an open piece contains the end of
the log; requests for a piece that is being read wait for that read, so ten thousand of them read it once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from pgshapes.http_api.decide import is_up_to_date
from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.store import LogReader
from pgshapes.waiting.notice import Notice

ENTRY_OVERHEAD_BYTES: Final = 500
"""Memory of an entry in addition to its body: key, tuple and the headers of three Python objects, measured
with tracemalloc."""


class Piece(NamedTuple):
    """A response body, the offset of its end, and whether it reaches the end of the log."""

    body: bytes
    end: Offset
    is_up_to_date: bool


class BodyCache:
    """Reads pieces of snapshots and logs, and caches their bodies."""

    def __init__(self, reader: LogReader, limit_bytes: int) -> None:
        self._reader = reader
        self._limit_bytes = limit_bytes
        self.size_bytes = 0
        """The size of all entries."""
        self._pieces: OrderedDict[Hashable, Piece] = OrderedDict()
        self._reading: dict[Hashable, Notice] = {}

    def cached_snapshot_chunk(self, handle: str, number: int) -> Piece | None:
        """A chunk of the initial snapshot if it is cached."""
        return self._cached((handle, number))

    async def snapshot_chunk(self, handle: str, number: int) -> Piece:
        """A chunk of the initial snapshot. Raises StorageError."""
        key = (handle, number)
        async with self._exclusive(key):
            return self._cached(key) or await self._read_snapshot_chunk(key)

    def cached_log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece | None:
        """The piece of the log after `after` if it is cached."""
        return self._cached((handle, after)) or self._cached((handle, after, tail.latest, seen_lsn))

    async def log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece:
        """The piece of the log after `after`, followed by `up-to-date` if it reaches the end of the log.

        `seen_lsn` is the lower bound for the LSN in `up-to-date`. Raises StorageError.
        """
        async with self._exclusive((handle, after, tail.latest, seen_lsn)):
            cached = self.cached_log(handle, after, tail, seen_lsn)
            return cached or await self._read_log(handle, after, tail, seen_lsn)

    @asynccontextmanager
    async def _exclusive(self, key: Hashable) -> AsyncIterator[None]:
        """Let one request at a time read a piece; the others wait, then find it cached or try in turn.

        Not a `SingleFlight`: that would be a task and a turn of the event loop for each change that is sent,
        while reads of files do not suspend, so nobody has to wait here.
        """
        while (ahead := self._reading.get(key)) is not None:
            await ahead
        done = self._reading[key] = Notice()
        try:
            yield
        finally:
            del self._reading[key]
            done.give()

    def events(self, handle: str, after: Offset, piece: Piece, render: Callable[[bytes], bytes]) -> bytes:
        """The body of the piece after `after`, rendered as events by `render`."""
        key = (handle, after, piece.end, piece.is_up_to_date, "events")
        rendered = self._cached(key) or self._store(key, piece._replace(body=render(piece.body)))
        return rendered.body

    async def _read_snapshot_chunk(self, key: tuple[str, int]) -> Piece:
        handle, number = key
        body = await self._reader.read_snapshot_chunk(handle, number)
        return self._store(key, Piece(body, Offset(0, number), False))

    async def _read_log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece:
        part = await self._reader.read_log(handle, after, tail)
        if not is_up_to_date(part.end, tail.latest):
            return self._store((handle, after), Piece(b"[%b]" % part.body, part.end, False))
        body = b"[%b]" % up_to_date_after(part.body, max(seen_lsn, part.end.tx))
        return self._store((handle, after, tail.latest, seen_lsn), Piece(body, part.end, True))

    def _cached(self, key: Hashable) -> Piece | None:
        piece = self._pieces.get(key)
        if piece is not None:
            self._pieces.move_to_end(key)
        return piece

    def _store(self, key: Hashable, piece: Piece) -> Piece:
        if key in self._pieces:  # reads with two different tails have returned the same closed chunk
            return piece
        self._pieces[key] = piece
        self.size_bytes += len(piece.body) + ENTRY_OVERHEAD_BYTES
        while self.size_bytes > self._limit_bytes:
            _, evicted = self._pieces.popitem(last=False)
            self.size_bytes -= len(evicted.body) + ENTRY_OVERHEAD_BYTES
        return piece


def up_to_date_after(messages: bytes, lsn: int) -> bytes:
    """The messages, if any, followed by the control message `up-to-date`."""
    return b"%b,%b" % (messages, up_to_date(lsn)) if messages else up_to_date(lsn)


def up_to_date(lsn: int) -> bytes:
    """The control message at the end of a body that reaches the end of the log."""
    return b'{"headers":{"control":"up-to-date","global_last_seen_lsn":"%d"}}' % lsn
