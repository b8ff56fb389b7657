"""Reads snapshots and logs from the files, in any process. Never writes, and never reads past the given tail.

Each read opens and closes its file, which takes 5 µs; so no descriptor outlives its shape. The reader caches
where recent tails ended, so that a live request needs no search in the index.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from pgshapes.errors import StorageError
from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.file_store.files import storage_error
from pgshapes.shape_log.file_store.format import (
    ENDS_CHUNK,
    RECORD_BYTES,
    EndPosition,
    Record,
    decode,
    first_after,
    first_of_chunk,
    is_checksum_of,
)
from pgshapes.shape_log.file_store.layout import INDEX, LOG, Layout, is_handle, snapshot_name
from pgshapes.shape_log.file_store.snapshot import END_MARK
from pgshapes.shape_log.store import ANY_SIZE, LogSlice

REMEMBERED_TAILS: Final = 16_384
"""At 200 bytes each, 3 MB. A tail is useful until the clients that received it have asked again."""
STEP_BYTES: Final = 2**20
"""Read and checked in one step, which takes about 1 ms."""


class FileLogReader:
    """The `LogReader` of the file store. Its state is the cache of where recent tails ended.

    Its reads block for one step: the data is in the page cache or on a local disk.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._layout = Layout(str(Path(root).absolute()))
        self._ends: OrderedDict[tuple[str, Offset], int] = OrderedDict()

    async def snapshot_chunk_size(self, handle: str, number: int) -> int:
        """The size in bytes of snapshot chunk `number`. Raises StorageError."""
        with self._opened(handle, snapshot_name(number)) as file:
            return _chunk_size(file)

    async def read_snapshot_chunk(self, handle: str, number: int) -> bytes:
        """The complete response body of snapshot chunk `number`. Raises StorageError."""
        with self._opened(handle, snapshot_name(number)) as file:
            return _read(file, 0, _chunk_size(file))

    async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        """The messages after `after`, to the end of their chunk or `tail.latest`; only found if they are more
        than `most` bytes. Raises StorageError.
        """
        if not tail.position or after >= tail.latest:
            return LogSlice(b"", tail.latest, False)
        end, bound = EndPosition(*tail.position)
        self._remember(handle, tail.latest, end)
        if after < tail.last_chunk_bound:
            return await self._read_closed_chunk(handle, after, end, most)
        is_at_bound = after == tail.last_chunk_bound or after.tx <= 0
        start = bound if is_at_bound else self._start_in_open_chunk(handle, after)
        body = self._read_body(handle, start, end, end, most)
        return LogSlice(body, tail.latest, False, start, end - start - 1)

    async def read_part(self, handle: str, chunk: int | None, position: int, size: int) -> bytes:
        """Bytes of a snapshot chunk, or of the log, that were read before. Raises StorageError."""
        with self._opened(handle, LOG if chunk is None else snapshot_name(chunk)) as file:
            return _read(file, position, size)

    def _start_in_open_chunk(self, handle: str, after: Offset) -> int:
        known = self._ends.get((handle, after))
        if known is not None:
            return known
        with self._index(handle) as index:
            return index.first_after(after).record.position

    async def _read_closed_chunk(self, handle: str, after: Offset, readable: int, most: int) -> LogSlice:
        with self._index(handle) as index:
            first = index.first_after(after)
            last = index.last_of_chunk(first.record.chunk)
        start, end = first.record.position, last.record.end
        body = self._read_body(handle, start, end, readable, most)
        is_intact = bool(last.record.flags & ENDS_CHUNK)
        for found in (first, last):
            is_intact = is_intact and await self._is_intact(handle, found, body, start)
        if not is_intact:
            raise StorageError(f"shape {handle}: the index is damaged")
        return LogSlice(body, last.record.offset, True, start, end - start - 1)

    def _read_body(self, handle: str, start: int, end: int, readable: int, most: int) -> bytes:
        """The messages in this range, without the separator after the last; empty if more than `most`."""
        if not start < end <= readable:
            raise StorageError(f"shape {handle}: the index does not fit the log")
        if end - start - 1 > most:
            return b""
        with self._opened(handle, LOG) as file:
            return _read(file, start, end - start - 1)

    async def _is_intact(self, handle: str, found: _Found, body: bytes, start: int) -> bool:
        """Whether the message of a record is in the log, which is read for it unless `body` has been."""
        position, length = found.record.position, found.record.length
        if body:
            return is_checksum_of(found.data, crc32(body[position - start : position - start + length]))
        checksum = 0
        with self._opened(handle, LOG) as file:
            for done in range(0, length, STEP_BYTES):
                if done:
                    await asyncio.sleep(0)
                checksum = crc32(_read(file, position + done, min(STEP_BYTES, length - done)), checksum)
        return is_checksum_of(found.data, checksum)

    def _remember(self, handle: str, latest: Offset, end: int) -> None:
        key = (handle, latest)
        if key not in self._ends:
            self._ends[key] = end
            if len(self._ends) > REMEMBERED_TAILS:
                self._ends.popitem(last=False)

    @contextmanager
    def _index(self, handle: str) -> Iterator[_Index]:
        with self._opened(handle, INDEX) as file:
            yield _Index(file)

    @contextmanager
    def _opened(self, handle: str, name: str) -> Iterator[int]:
        if not is_handle(handle):
            raise StorageError(f"not a handle: {handle!r}")
        try:
            file = os.open(f"{self._layout.directory(handle)}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield file
            finally:
                os.close(file)
        except OSError as error:
            raise storage_error(error, f"read {name} of shape {handle}") from error


class _Found(NamedTuple):
    """A record and its bytes."""

    record: Record
    data: bytes


class _Index:
    """The records in an open `log.index`. The owner may append; existing records do not change."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._count = os.fstat(file).st_size // RECORD_BYTES

    def first_after(self, offset: Offset) -> _Found:
        """The first record with a greater offset. Raises StorageError if there is none."""
        return self._at(first_after(self._count, self._read, offset))

    def last_of_chunk(self, chunk: int) -> _Found:
        """The last record of an existing chunk."""
        return self._at(first_of_chunk(self._count, self._read, chunk + 1) - 1)

    def _at(self, number: int) -> _Found:
        if not 0 <= number < self._count:
            raise StorageError("the index is shorter than the log")
        data = self._read(number)
        return _Found(decode(data), data)

    def _read(self, number: int) -> bytes:
        return _read(self._file, number * RECORD_BYTES, RECORD_BYTES)


def _chunk_size(file: int) -> int:
    size = os.fstat(file).st_size
    return size - 1 if os.pread(file, 1, size - 1 if size else 0) == END_MARK else size


def _read(file: int, start: int, size: int) -> bytes:
    data = os.pread(file, size, start)
    while len(data) < size:
        more = os.pread(file, size - len(data), start + len(data))
        if not more:
            raise StorageError("a file is shorter than its tail says")
        data += more
    return data
