"""Bodies that are kept for whoever asks next: built once per (handle, offset, end of the log).

State: the bodies, bounded by their bytes; the least recently used goes first. One application owns one cache,
and all of it runs on one event loop: looking up and building has no await, so ten thousand requests for the
same piece build it once. Invariant: what is stored under a key is true for ever, because handles are never
reused, closed chunks never change, and the key of an open piece holds the end of the log. Nothing has to be
invalidated.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from pgshapes.http_api.decide import is_up_to_date
from pgshapes.http_api.ports import LogReader
from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail

ENTRY_OVERHEAD_BYTES: Final = 500
"""What an entry costs beside its body: key, tuple and headers of three Python objects, measured with
tracemalloc."""


class Piece(NamedTuple):
    """A body and what the headers say of it."""

    body: bytes
    end: Offset
    is_up_to_date: bool


class BodyCache:
    """The bodies that one application has built lately, and how they are built."""

    def __init__(self, reader: LogReader, limit_bytes: int) -> None:
        self._reader = reader
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._pieces: OrderedDict[Hashable, Piece] = OrderedDict()

    def snapshot_chunk(self, handle: str, number: int) -> Piece:
        """A chunk of the initial snapshot. Raises StorageError."""
        key = (handle, number)
        piece = self._find(key)
        if piece is None:
            body = self._reader.read_snapshot_chunk(handle, number)
            piece = self._keep(key, Piece(body, Offset(0, number), False))
        return piece

    def log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece:
        """What follows `after`, with `up-to-date` behind it when it reaches the end. Raises StorageError.

        `seen_lsn` is the least that `up-to-date` may tell (http-api §5.6).
        """
        piece = self._find((handle, after)) or self._find((handle, after, tail.latest, seen_lsn))
        return piece or self._read_log(handle, after, tail, seen_lsn)

    def events(self, handle: str, after: Offset, piece: Piece, render: Callable[[bytes], bytes]) -> bytes:
        """A piece that follows `after`, rendered for a stream."""
        key = (handle, after, piece.end, piece.is_up_to_date, "events")
        rendered = self._find(key) or self._keep(key, piece._replace(body=render(piece.body)))
        return rendered.body

    def _read_log(self, handle: str, after: Offset, tail: Tail, seen_lsn: int) -> Piece:
        part = self._reader.read_log(handle, after, tail)
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
        self._pieces[key] = piece
        self._size_bytes += len(piece.body) + ENTRY_OVERHEAD_BYTES
        while self._size_bytes > self._limit_bytes:
            _, gone = self._pieces.popitem(last=False)
            self._size_bytes -= len(gone.body) + ENTRY_OVERHEAD_BYTES
        return piece


def up_to_date_after(messages: bytes, lsn: int) -> bytes:
    """The messages, if any, with the control message `up-to-date` behind them."""
    return b"%b,%b" % (messages, up_to_date(lsn)) if messages else up_to_date(lsn)


def up_to_date(lsn: int) -> bytes:
    """The control message that ends a body which reaches the end of the log."""
    return b'{"headers":{"control":"up-to-date","global_last_seen_lsn":"%d"}}' % lsn
