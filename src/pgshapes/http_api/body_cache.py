"""Bodies that are kept for the next request: read once per (handle, offset, end of the log).

State: the bodies, bounded by their bytes, of which the least recently used goes first; and which pieces are
being read. One application owns one cache, in one event loop. Invariants: what is stored under a key stays
true, because handles are never reused, closed chunks never change, and the key of an open piece holds the end
of the log, so nothing has to be invalidated; requests that ask for a piece while it is read wait for that
read, so ten thousand of them read it once.
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
"""What an entry costs beside its body: key, tuple and headers of three Python objects, measured with
tracemalloc."""


class Piece(NamedTuple):
    """A body and what the headers say of it."""

    body: bytes
    end: Offset
    is_up_to_date: bool


class BodyCache:
    """The bodies that one application has read lately, and how they are read."""

    def __init__(self, reader: LogReader, limit_bytes: int) -> None:
        self._reader = reader
        self._limit_bytes = limit_bytes
        self.size_bytes = 0
        """What the kept bodies take up."""
        self._pieces: OrderedDict[Hashable, Piece] = OrderedDict()
        self._reading: dict[Hashable, Notice] = {}

    def kept_snapshot_chunk(self, handle: str, number: int) -> Piece | None:
        """A chunk of the initial snapshot, if it is here."""
        return self._find((handle, number))

    async def snapshot_chunk(self, handle: str, number: int) -> Piece:
        """A chunk of the initial snapshot. Raises StorageError."""
        key = (handle, number)
        async with self._alone(key):
            return self._find(key) or await self._read_snapshot_chunk(key)

    def kept_log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece | None:
        """What follows `after`, if it is here."""
        return self._find((handle, after)) or self._find((handle, after, tail.latest, seen_lsn))

    async def log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece:
        """What follows `after`, with `up-to-date` behind it when it reaches the end. Raises StorageError.

        `seen_lsn` is the least that `up-to-date` may say.
        """
        async with self._alone((handle, after, tail.latest, seen_lsn)):
            kept = self.kept_log(handle, after, tail, seen_lsn)
            return kept or await self._read_log(handle, after, tail, seen_lsn)

    @asynccontextmanager
    async def _alone(self, key: Hashable) -> AsyncIterator[None]:
        """Let one request at a time read the piece: those after it find it kept, or try in their turn."""
        while (ahead := self._reading.get(key)) is not None:
            await ahead
        done = self._reading[key] = Notice()
        try:
            yield
        finally:
            del self._reading[key]
            done.give()

    def events(self, handle: str, after: Offset, piece: Piece, render: Callable[[bytes], bytes]) -> bytes:
        """A piece that follows `after`, rendered for a stream."""
        key = (handle, after, piece.end, piece.is_up_to_date, "events")
        rendered = self._find(key) or self._keep(key, piece._replace(body=render(piece.body)))
        return rendered.body

    async def _read_snapshot_chunk(self, key: tuple[str, int]) -> Piece:
        handle, number = key
        body = await self._reader.read_snapshot_chunk(handle, number)
        return self._keep(key, Piece(body, Offset(0, number), False))

    async def _read_log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece:
        part = await self._reader.read_log(handle, after, tail)
        if not is_up_to_date(part.end, tail.latest):
            return self._keep((handle, after), Piece(b"[%b]" % part.body, part.end, False))
        body = b"[%b]" % up_to_date_after(part.body, max(seen_lsn, part.end.tx))
        return self._keep((handle, after, tail.latest, seen_lsn), Piece(body, part.end, True))

    def _find(self, key: Hashable) -> Piece | None:
        piece = self._pieces.get(key)
        if piece is not None:
            self._pieces.move_to_end(key)
        return piece

    def _keep(self, key: Hashable, piece: Piece) -> Piece:
        if key in self._pieces:  # two tails end beyond the same closed chunk, which both have read
            return piece
        self._pieces[key] = piece
        self.size_bytes += len(piece.body) + ENTRY_OVERHEAD_BYTES
        while self.size_bytes > self._limit_bytes:
            _, gone = self._pieces.popitem(last=False)
            self.size_bytes -= len(gone.body) + ENTRY_OVERHEAD_BYTES
        return piece


def up_to_date_after(messages: bytes, lsn: int) -> bytes:
    """The messages, if any, with the control message `up-to-date` behind them."""
    return b"%b,%b" % (messages, up_to_date(lsn)) if messages else up_to_date(lsn)


def up_to_date(lsn: int) -> bytes:
    """The control message that ends a body which reaches the end of the log."""
    return b'{"headers":{"control":"up-to-date","global_last_seen_lsn":"%d"}}' % lsn
