"""The end of a log: where the next message goes, and the bytes that it adds to both files. Pure.

A `LogEnd` is a value: the writer replaces its own only after the bytes are written, so a failed append
leaves no trace, and recovery comes to the same value by reading the records back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset
from pgshapes.shape_log.entry import Entry
from pgshapes.shape_log.record import ENDS_CHUNK, ENDS_TRANSACTION, Record, encode


class LogEnd(NamedTuple):
    """The state of a log after some message."""

    last: Offset = AFTER_SNAPSHOT
    """Offset of the last message."""
    position: int = 0
    """Bytes of the file `log`."""
    records: int = 0
    """Records of the file `log.index`."""
    chunk: int = 0
    """Ordinal of the chunk that the next message belongs to."""
    chunk_size: int = 0
    """JSON bytes in that chunk."""
    chunk_bound: Offset = BEFORE_ALL
    """Offset of the last message that closed a chunk."""
    chunk_start: int = 0
    """Where the open chunk starts in the file `log`."""

    def after(self, record: Record) -> LogEnd:
        """The end once `record` is there."""
        if record.flags & ENDS_CHUNK:
            chunk = (record.chunk + 1, 0, record.offset, record.end)
        else:
            chunk = (record.chunk, self.chunk_size + record.length, self.chunk_bound, self.chunk_start)
        return LogEnd(record.offset, record.end, self.records + 1, *chunk)


class OpenRecord(NamedTuple):
    """The last record of an unfinished transaction; written again when the transaction ends with it."""

    offset: Offset
    position: int
    length: int
    chunk: int
    flags: int
    payload_crc: int

    def encode_ended(self) -> bytes:
        """The record as the end of its transaction."""
        return encode(*self._replace(flags=self.flags | ENDS_TRANSACTION))


Draft = tuple[bytes, bytes, LogEnd, OpenRecord | None]
"""Bytes for `log`, bytes for `log.index`, the end that follows, the record that waits for its flag."""


def draft(end: LogEnd, entries: Sequence[Entry], threshold: int, *, ends_transaction: bool) -> Draft:
    """The bytes for `entries`, at least one. Raises ValueError when their offsets do not grow."""
    last, position, records, chunk, size, bound, start = end
    index: list[bytes] = []
    final = len(entries) - 1
    open_record = None
    for number, (offset, json) in enumerate(entries):
        if offset <= last:
            raise ValueError(f"offset {offset} does not come after {last}")
        last, length = offset, len(json)
        size += length
        flags = ENDS_CHUNK if size >= threshold else 0
        if number == final:
            if ends_transaction:
                flags |= ENDS_TRANSACTION
            else:
                open_record = OpenRecord(offset, position, length, chunk, flags, crc32(json))
        index.append(encode(offset, position, length, chunk, flags, crc32(json)))
        position += length + 1
        if flags & ENDS_CHUNK:
            chunk, size, bound, start = chunk + 1, 0, offset, position
    messages = b",".join([json for _, json in entries]) + b","
    new_end = LogEnd(last, position, records + len(entries), chunk, size, bound, start)
    return messages, b"".join(index), new_end, open_record
