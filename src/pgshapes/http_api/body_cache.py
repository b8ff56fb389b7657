"""A cache of response bodies, keyed by handle, offset and end of the log; of large bodies, of their parts.

State: the bodies and parts, limited by their total size, with the least recently used evicted; and which
pieces are being read. One application owns one cache, in one event loop. Invariants: no step of the event
loop reads more than a part; an entry never becomes invalid, because handles are never reused, closed chunks
never change, and the key of an open piece contains the end of the log; requests for a piece that is being
read wait for that read, so ten thousand of them read it once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from pgshapes.http_api.decide import is_up_to_date
from pgshapes.http_api.large_body import PART_BYTES, FileRange, LargeBody
from pgshapes.model.offset import BEFORE_ALL, Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.store import LogReader
from pgshapes.waiting.notice import Notice

ENTRY_OVERHEAD_BYTES: Final = 500
"""Memory of an entry in addition to its body: key, tuple and the headers of three Python objects, measured
with tracemalloc."""


class Piece(NamedTuple):
    """A response body, the offset of its end, and whether it reaches the end of the log."""

    body: bytes
    """Empty if the body is large."""
    end: Offset
    is_up_to_date: bool
    large: LargeBody | None = None
    """The body if it is large."""


class BodyCache:
    """Reads pieces of snapshots and logs, and caches their bodies."""

    def __init__(self, reader: LogReader, limit_bytes: int) -> None:
        self._reader = reader
        self._limit_bytes = limit_bytes
        self.size_bytes = 0
        """The size of all entries."""
        self._pieces: OrderedDict[Hashable, Piece] = OrderedDict()
        """Also parts of large bodies, without an end."""
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
        """The body of a piece after `after` that is not large, rendered as events by `render`."""
        key = (handle, after, piece.end, piece.is_up_to_date, "events")
        rendered = self._cached(key) or self._store(key, piece._replace(body=render(piece.body)))
        return rendered.body

    async def _read_snapshot_chunk(self, key: tuple[str, int]) -> Piece:
        handle, number = key
        end, size = Offset(0, number), await self._reader.snapshot_chunk_size(handle, number)
        if size > PART_BYTES:
            return self._store(key, self._large(key, FileRange(handle, number, 0, size), end, None))
        return self._store(key, Piece(await self._reader.read_snapshot_chunk(handle, number), end, False))

    async def _read_log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece:
        found = await self._reader.read_log(handle, after, tail, PART_BYTES)
        is_at_end = is_up_to_date(found.end, tail.latest)
        key: Hashable = (handle, after, tail.latest, seen_lsn) if is_at_end else (handle, after)
        lsn = max(seen_lsn, found.end.tx) if is_at_end else None
        if found.size > PART_BYTES:
            range_ = FileRange(handle, None, found.position, found.size)
            return self._store(key, self._large(key, range_, found.end, lsn, b"["))
        messages = found.body if lsn is None else up_to_date_after(found.body, lsn)
        return self._store(key, Piece(b"[%b]" % messages, found.end, is_at_end))

    def _large(
        self, key: Hashable, range_: FileRange, end: Offset, lsn: int | None, before: bytes = b""
    ) -> Piece:
        """A piece that is not read yet; of the log with `before`, up to date at `lsn`."""
        after = (b"" if lsn is None else b"," + up_to_date(lsn)) + (b"]" if before else b"")
        return Piece(b"", end, lsn is not None, LargeBody(self, key, range_, before, after))

    async def read_again(self, range_: FileRange, start: int, size: int) -> bytes:
        """Part of the bytes that a body is made of. Raises StorageError."""
        return await self._reader.read_part(range_.handle, range_.chunk, range_.position + start, size)

    def cached_part(self, key: Hashable) -> bytes | None:
        """The part of a large body with this key if it is cached."""
        piece = self._cached(key)
        return None if piece is None else piece.body

    def cache_part(self, key: Hashable, part: bytes) -> None:
        """Cache a part of a large body."""
        self._store(key, Piece(part, BEFORE_ALL, False))

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
