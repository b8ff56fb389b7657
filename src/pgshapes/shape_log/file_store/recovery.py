"""Finds the intact part of a shape at start, before anything is appended. Only reads; the store cuts and
syncs.

Records of transactions before the recorded LSN were synced before that LSN was recorded. They are the
*trusted* part, which Postgres does not send again. Beyond it, pages may have been written in any order or not
at all, so an intact last record does not prove that the others are. The scan goes forward, verifies every
record with its message, stops at the first failure, and keeps everything up to the last record that ends a
transaction. Damage in the trusted part means that the shape is lost. It is detected only where recovery
reads: at the end of the trusted part, and in trusted records after the cut.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from pgshapes.errors import StorageError
from pgshapes.model.offset import BEFORE_ALL
from pgshapes.model.tail import Tail
from pgshapes.shape_log.file_store.files import storage_error
from pgshapes.shape_log.file_store.format import (
    ENDS_CHUNK,
    ENDS_TRANSACTION,
    RECORD_BYTES,
    LogEnd,
    Record,
    decode,
    first_of_chunk,
    is_intact,
    transaction_of,
)
from pgshapes.shape_log.file_store.layout import INDEX, LOG, snapshot_name, snapshot_number
from pgshapes.shape_log.file_store.log import RecoveredLog
from pgshapes.shape_log.file_store.snapshot import END_MARK

_BLOCK_BYTES: Final = 65_536


class RecoveryPlan(NamedTuple):
    """What to keep of a shape, and what the store has to do."""

    recovered: RecoveredLog
    must_cut: bool
    """Whether the files are longer than the kept part."""
    must_sync: bool
    """Whether the disk may hold something else: records are kept that may not be durable, and will be skipped
    when Postgres sends them again, or what is cut off may come back under what is appended.
    """


def plan_recovery(directory: str, recorded_lsn: int) -> RecoveryPlan:
    """What to keep of the shape in `directory`.

    Raises StorageError if the shape is lost, PermissionError if its files cannot be read.
    """
    try:
        return _plan_recovery(directory, recorded_lsn)
    except PermissionError:
        raise
    except OSError as error:
        raise storage_error(error, directory) from error


def readable_tail(directory: str, recorded_lsn: int) -> Tail | None:
    """How far the shape in `directory` can be read, as the next owner will find it; None if it cannot."""
    try:
        return plan_recovery(directory, recorded_lsn).recovered.tail
    except (StorageError, OSError):
        return None


def _plan_recovery(directory: str, recorded_lsn: int) -> RecoveryPlan:
    names = frozenset(os.listdir(directory))  # noqa: PTH208 - called for each shape at start
    chunks = _count_snapshot_chunks(directory, names)
    with _opened(directory, INDEX, names) as index, _opened(directory, LOG, names) as log:
        scan = _Scan(_Window(index), _Window(log), recorded_lsn)
        end, trusted = scan.run()
        must_cut = scan.is_longer_than(end)
        return RecoveryPlan(RecoveredLog(end, chunks), must_cut, must_sync=must_cut or end.records > trusted)


class _Window:
    """Reads a file in blocks, mostly forward; a missing file is read as empty."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self.size = 0 if descriptor is None else os.fstat(descriptor).st_size
        self._start = 0
        self._bytes = b""

    def read(self, position: int, size: int) -> bytes:
        """`size` bytes from `position`, fewer at the end of the file."""
        start = position - self._start
        if (start < 0 or start + size > len(self._bytes)) and self._descriptor is not None:
            self._start, start = position - position % _BLOCK_BYTES, position % _BLOCK_BYTES
            self._bytes = os.pread(self._descriptor, start + max(size, _BLOCK_BYTES), self._start)
        return self._bytes[start : start + size]


class _Scan:
    """One pass over a log."""

    def __init__(self, index: _Window, log: _Window, recorded_lsn: int) -> None:
        self._index = index
        self._log = log
        self._recorded_lsn = recorded_lsn
        self._count = index.size // RECORD_BYTES

    def is_longer_than(self, end: LogEnd) -> bool:
        """Whether a file is longer than this end."""
        return self._index.size > end.records * RECORD_BYTES or self._log.size > end.position

    def run(self) -> tuple[LogEnd, int]:
        """The end of the kept part, and the number of trusted records."""
        trusted = bisect_left(range(self._count), True, key=lambda number: not self._is_trusted(number))
        end = self._end_of_trusted(trusted)
        kept = self._scan_forward(end)
        if any(self._is_trusted(number) for number in range(kept.records, self._count)):
            raise StorageError("a record that was durable is damaged")
        return kept, trusted

    def _is_trusted(self, number: int) -> bool:
        return 0 < transaction_of(self._read(number)) < self._recorded_lsn

    def _end_of_trusted(self, count: int) -> LogEnd:
        if not count:
            return LogEnd()
        record = self._intact(count - 1)
        if record is None or not record.flags & ENDS_TRANSACTION:
            raise StorageError("the end of the durable part is damaged")
        return self._end_before(record, count - 1).after(record)

    def _end_before(self, record: Record, number: int) -> LogEnd:
        """The end of the log before this record, which is intact."""
        first = first_of_chunk(number, self._read, record.chunk)
        if first == record.chunk == 0:
            return LogEnd(records=number, chunk_size=record.position - number)
        closing = decode(self._read(max(first - 1, 0)))
        if not closing.flags & ENDS_CHUNK or closing.chunk + 1 != record.chunk:
            raise StorageError("the chunks of the durable part are damaged")
        size = record.position - closing.end - (number - first)
        return LogEnd(BEFORE_ALL, record.position, number, record.chunk, size, closing.offset, closing.end)

    def _scan_forward(self, end: LogEnd) -> LogEnd:
        finished = end
        for number in range(end.records, self._count):
            record = self._intact(number)
            if record is None or not _follows(record, end) or record.tx < self._recorded_lsn:
                break
            end = end.after(record)
            if record.flags & ENDS_TRANSACTION:
                finished = end
        return finished

    def _intact(self, number: int) -> Record | None:
        data = self._read(number)
        record = decode(data)
        if record.end > self._log.size:
            return None
        payload = self._log.read(record.position, record.length + 1)
        if payload[-1:] != b"," or not is_intact(data, payload[:-1]):
            return None
        return record

    def _read(self, number: int) -> bytes:
        return self._index.read(number * RECORD_BYTES, RECORD_BYTES)


def _follows(record: Record, end: LogEnd) -> bool:
    return record.offset > end.last and record.position == end.position and record.chunk == end.chunk


def _count_snapshot_chunks(directory: str, names: frozenset[str]) -> int:
    numbers = {number for name in names if (number := snapshot_number(name)) is not None}
    if not numbers or numbers != set(range(len(numbers))):
        raise StorageError(f"{directory}: snapshot chunks are missing")
    for number in numbers:
        ending = b"]" + END_MARK if number == len(numbers) - 1 else b"]"
        if not _is_whole(f"{directory}/{snapshot_name(number)}", ending):
            raise StorageError(f"{directory}: snapshot chunk {number} is damaged")
    return len(numbers)


def _is_whole(path: str, ending: bytes) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        start, end = os.pread(descriptor, 1, 0), os.pread(descriptor, 2, max(size - 2, 0))
        return start == b"[" and end.endswith(ending)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(directory: str, name: str, names: frozenset[str]) -> Iterator[int | None]:
    if name not in names:
        yield None
        return
    descriptor = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
