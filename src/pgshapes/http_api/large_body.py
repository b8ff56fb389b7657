"""Bodies of any size, read and sent in parts: no step of the event loop and no response has all of one.

The first part is read when the response has begun, so a shortage is waited for (`shortages`).

State: none; parts are cached by the `Parts` that the body was made with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from typing import Final, NamedTuple, Protocol

from pgshapes.http_api.shortages import outlast

PART_BYTES: Final = 128 * 1024
"""Larger bodies are read and sent in parts of this size: one takes some 50 µs."""

_SEPARATORS: Final = tuple(b'}},{"%b":' % name for name in (b"key", b"headers"))
"""Between two messages, whose last value is an object. Not inside of a text: the quote would end the text,
and no name follows the end of a text.
"""
_HELD_BACK: Final = max(map(len, _SEPARATORS)) - 1


class FileRange(NamedTuple):
    """Bytes that can be read again: of a snapshot chunk, or of the log if `chunk` is None."""

    handle: str
    chunk: int | None
    position: int
    size: int


class Parts(Protocol):
    """Reads and caches parts of bodies."""

    async def read_again(self, range_: FileRange, start: int, size: int) -> bytes:
        """Part of the bytes that a body is made of. Raises StorageError."""

    def cached_part(self, key: Hashable) -> bytes | None:
        """The part with this key if it is cached."""

    def cache_part(self, key: Hashable, part: bytes) -> None:
        """Cache a part."""


class LargeBody:
    """A body that is sent in parts, each read when it is needed: `before`, the bytes of a file, `after`."""

    __slots__ = ("_after", "_before", "_key", "_parts", "_range")

    def __init__(self, parts: Parts, key: Hashable, range_: FileRange, before: bytes, after: bytes) -> None:
        """The parts are cached under `key` and their positions."""
        self._parts = parts
        self._key = key
        self._range = range_
        self._before = before
        self._after = after

    def __len__(self) -> int:
        return len(self._before) + self._range.size + len(self._after)

    async def part(self, start: int) -> bytes:
        """`PART_BYTES` bytes from `start`, fewer at the end. Raises StorageError, StorageShortage only after
        it has waited.
        """
        key = (self._key, start)
        part = self._parts.cached_part(key)
        if part is None:
            part = await outlast(lambda: self._read(start))
            self._parts.cache_part(key, part)
        return part

    async def _read(self, start: int) -> bytes:
        first = start - len(self._before)
        last = min(first + PART_BYTES, self._range.size)
        middle = b""
        if max(first, 0) < last:
            middle = await self._parts.read_again(self._range, max(first, 0), last - max(first, 0))
        part = self._before[start:] + middle + self._after[max(first - self._range.size, 0) :]
        return part[:PART_BYTES]


async def events_of(body: LargeBody) -> AsyncIterator[bytes]:
    """The messages of a large body as server-sent events, in parts, between which other tasks run. Raises
    StorageError.

    The text of a message is not changed: it has no line breaks.
    """
    kept, position = b"data: ", 1
    while position < len(body):
        part = await body.part(position)
        position += len(part)
        text = kept + part
        for separator in _SEPARATORS:
            text = text.replace(separator, b"}}\n\ndata: " + separator[3:])
        yield text[:-_HELD_BACK]
        await asyncio.sleep(0)
        kept = text[-_HELD_BACK:]
    yield kept.removesuffix(b"]") + b"\n\n"
