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


PART_BYTES: Final = 128 * 1024
"""Larger bodies are sent in parts of this size."""


class FileRange(NamedTuple):
    """Bytes that can be read again: of a snapshot chunk, or of the log if `chunk` is None."""

    handle: str
    chunk: int | None
    position: int
    size: int


class LargeBody:
    """A body that is sent in parts, and that its response does not keep in memory.

    A part comes from the cache. When the body has been evicted, because its client reads slowly, only the
    part is read again.
    """

    __slots__ = ("_after", "_before", "_cache", "_key", "_range")

    def __init__(
        self, cache: BodyCache, key: Hashable, range_: FileRange, before: bytes, after: bytes
    ) -> None:
        """The body that is cached under `key`: `before`, the bytes of a file, `after`."""
        self._cache = cache
        self._key = key
        self._range = range_
        self._before = before
        self._after = after

    def __len__(self) -> int:
        return len(self._before) + self._range.size + len(self._after)

    async def part(self, start: int) -> bytes:
        """`PART_BYTES` bytes from `start`, fewer at the end. Raises StorageError."""
        whole = self._cache.cached(self._key)
        if whole is not None:
            return whole.body[start : start + PART_BYTES]
        first = start - len(self._before)
        last = min(first + PART_BYTES, self._range.size)
        middle = b""
        if max(first, 0) < last:
            middle = await self._cache.read_again(self._range, max(first, 0), last - max(first, 0))
        part = self._before[start:] + middle + self._after[max(first - self._range.size, 0) :]
        return part[:PART_BYTES]


class Piece(NamedTuple):
    """A response body, the offset of its end, and whether it reaches the end of the log."""

    body: bytes
    end: Offset
    is_up_to_date: bool
    large: LargeBody | None = None
    """The body to send instead, if it is large."""


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
        rendered = self._cached(key) or self._store(key, piece._replace(body=render(piece.body), large=None))
        return rendered.body

    async def _read_snapshot_chunk(self, key: tuple[str, int]) -> Piece:
        handle, number = key
        body = await self._reader.read_snapshot_chunk(handle, number)
        large = self._large(key, FileRange(handle, number, 0, len(body)), b"", b"")
        return self._store(key, Piece(body, Offset(0, number), False, large))

    async def _read_log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece:
        part = await self._reader.read_log(handle, after, tail)
        range_ = FileRange(handle, None, part.position, len(part.body))
        if not is_up_to_date(part.end, tail.latest):
            key: Hashable = (handle, after)
            large = self._large(key, range_, b"[", b"]")
            return self._store(key, Piece(b"[%b]" % part.body, part.end, False, large))
        key, lsn = (handle, after, tail.latest, seen_lsn), max(seen_lsn, part.end.tx)
        large = self._large(key, range_, b"[", b",%b]" % up_to_date(lsn))
        return self._store(key, Piece(b"[%b]" % up_to_date_after(part.body, lsn), part.end, True, large))

    def _large(self, key: Hashable, range_: FileRange, before: bytes, after: bytes) -> LargeBody | None:
        return LargeBody(self, key, range_, before, after) if range_.size > PART_BYTES else None

    async def read_again(self, range_: FileRange, start: int, size: int) -> bytes:
        """Part of the bytes that a body was made of. Raises StorageError."""
        return await self._reader.read_part(range_.handle, range_.chunk, range_.position + start, size)

    def cached(self, key: Hashable) -> Piece | None:
        """The piece with this key if it is cached."""
        return self._cached(key)

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
