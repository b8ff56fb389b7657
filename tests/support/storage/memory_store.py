"""A log store in memory, for tests. The contract tests apply to it as to the file store.

It shares no code with the file store, so that each checks the other. Nothing is durable; one process only.
The store owns all state; readers read from it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import pairwise

from pgshapes.errors import StorageError
from pgshapes.model.offset import BEFORE_ALL, Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.file_store.layout import is_handle
from pgshapes.shape_log.store import ANY_SIZE, Entry, LogSlice, ShapeLog


class MemoryShapeLog:
    """A `ShapeLog` in lists."""

    def __init__(self, chunk_bytes: int) -> None:
        self.tail = Tail()
        self.chunk_bytes = chunk_bytes
        self.snapshot: list[bytes] = []
        self.entries: list[Entry] = []
        """Entries of transactions that have ended."""
        self.bounds: list[int] = []
        """For each closed chunk the number of entries up to its end."""
        self.chunk_size = 0
        self.unfinished: list[Entry] = []
        self.has_snapshot = False
        self.is_removed = False

    def append(self, entries: Sequence[Entry], *, ends_transaction: bool) -> None:
        self.check()
        if entries and self.unfinished and entries[0].offset <= self.unfinished[-1].offset:
            self.unfinished = []
        untold = [entry for entry in entries if entry.offset > self.tail.latest]
        if untold and self.unfinished and untold[0].offset.tx != self.unfinished[0].offset.tx:
            raise ValueError(f"transaction {untold[0].offset.tx} starts too early")
        offsets = [entry.offset for entry in self.unfinished + untold]
        if any(left >= right for left, right in pairwise(offsets)):
            raise ValueError("offsets do not grow")
        self.unfinished += untold
        if ends_transaction and self.unfinished:
            for entry in self.unfinished:
                self._add(entry)
            self.unfinished = []
            self._publish()

    def start_snapshot(self) -> MemorySnapshotWriter:
        if self.has_snapshot:
            raise StorageError("the shape already has a snapshot")
        self.has_snapshot = True
        return MemorySnapshotWriter(self)

    def check(self) -> None:
        """Raise StorageError if the shape was removed."""
        if self.is_removed:
            raise StorageError("the shape is removed")

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.chunk_size += len(entry.json)
        if self.chunk_size >= self.chunk_bytes:
            self.bounds.append(len(self.entries))
            self.chunk_size = 0

    def _publish(self) -> None:
        closed = self.bounds[-1] if self.bounds else 0
        self.tail = self.tail._replace(
            latest=self.entries[-1].offset,
            last_chunk_bound=self.entries[closed - 1].offset if closed else BEFORE_ALL,
            position=(len(self.entries),),
        )


class MemorySnapshotWriter:
    """A `SnapshotWriter` in a list."""

    def __init__(self, log: MemoryShapeLog) -> None:
        self._log = log
        self._rows: list[bytes] = []
        self._size = 0
        self._is_closed = False

    def add_rows(self, rows: Sequence[bytes]) -> None:
        self._check()
        for row in rows:
            self._rows.append(row)
            self._size += len(row) + 1
            if self._size >= self._log.chunk_bytes:
                self._close_chunk()

    def finish(self, snapshot_end: bytes) -> None:
        self._check()
        self._rows.append(snapshot_end)
        self._close_chunk()
        self._is_closed = True
        self._log.tail = self._log.tail._replace(is_snapshot_complete=True)

    def _check(self) -> None:
        self._log.check()
        if self._is_closed:
            raise StorageError("the snapshot is closed")

    def _close_chunk(self) -> None:
        self._log.snapshot.append(b"[" + b",".join(self._rows) + b"]")
        self._rows, self._size = [], 0
        self._log.tail = self._log.tail._replace(snapshot_chunks=len(self._log.snapshot))


class MemoryShapeStore:
    """A `ShapeStore` in memory."""

    def __init__(self, *, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._logs: dict[str, MemoryShapeLog] = {}

    def create(self, handle: str) -> MemoryShapeLog:
        if not is_handle(handle) or handle in self._logs:
            raise ValueError(f"not a new handle: {handle!r}")
        log = self._logs[handle] = MemoryShapeLog(self._chunk_bytes)
        return log

    def get(self, handle: str) -> MemoryShapeLog | None:
        return self._logs.get(handle)

    async def sync(self) -> None:
        """Nothing here is ever durable."""

    async def sync_shape(self, handle: str) -> None:
        """Nothing here is ever durable."""

    async def remove(self, handles: Collection[str]) -> None:
        for handle in handles:
            log = self._logs.pop(handle, None)
            if log is not None:
                log.is_removed = True

    async def empty_trash(self) -> None:
        """There is none."""

    def recover(self, live: Collection[str], recorded_lsn: int) -> dict[str, ShapeLog]:
        """All shapes of an earlier process are lost."""
        return {}

    @property
    def damage(self) -> dict[str, str]:
        """Nothing is damaged."""
        return {}

    async def close(self) -> None:
        """Nothing is open."""


class MemoryLogReader:
    """The `LogReader` of a `MemoryShapeStore`."""

    def __init__(self, store: MemoryShapeStore) -> None:
        self._store = store

    async def snapshot_chunk_size(self, handle: str, number: int) -> int:
        """The size in bytes of snapshot chunk `number`. Raises StorageError."""
        return len(await self.read_snapshot_chunk(handle, number))

    async def read_snapshot_chunk(self, handle: str, number: int) -> bytes:
        """The complete response body of snapshot chunk `number`. Raises StorageError."""
        chunks = self._log(handle).snapshot
        if not 0 <= number < len(chunks):
            raise StorageError(f"shape {handle} has no snapshot chunk {number}")
        return chunks[number]

    async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        """The messages after `after`, to the end of their chunk or `tail.latest`. Raises StorageError."""
        log = self._log(handle)
        start = bisect_right(log.entries, after, key=_offset)
        readable = bisect_right(log.entries, tail.latest, key=_offset)
        if start >= readable:
            return LogSlice(b"", tail.latest, False)
        chunk = bisect_right(log.bounds, start)
        is_closed = chunk < len(log.bounds) and log.bounds[chunk] <= readable
        end = log.bounds[chunk] if is_closed else readable
        body = b",".join(entry.json for entry in log.entries[start:end])
        position = sum(len(entry.json) + 1 for entry in log.entries[:start])
        size, last = len(body), log.entries[end - 1].offset
        return LogSlice(body if size <= most else b"", last, is_closed, position, size)

    async def read_part(self, handle: str, chunk: int | None, position: int, size: int) -> bytes:
        """Bytes that were read before. Raises StorageError."""
        log = self._log(handle)
        whole = b",".join(entry.json for entry in log.entries) if chunk is None else log.snapshot[chunk]
        return whole[position : position + size]

    def _log(self, handle: str) -> MemoryShapeLog:
        log = self._store.get(handle)
        if log is None:
            raise StorageError(f"shape {handle} is not here")
        return log


def _offset(entry: Entry) -> Offset:
    return entry.offset
