"""The format of a shape's log: index records, the end of a log, chunk boundaries. Pure.

A record of `log.index` says where a message is in the file `log`. It has 40 bytes, big-endian, so that the
first 16 bytes of two records compare as their offsets do: tx, op, position (64 bits each); length, chunk
number, flags, checksum (32 bits each). The checksum (CRC-32) covers the message and then the other fields of
the record, so it verifies both files. All fields are aligned, and no field crosses a page of 4096 bytes: a
page that was not written to disk contains a field entirely or not at all.

A chunk ends *with* the item that makes its size reach the threshold. So boundaries depend on content alone:
readers, and a replay after a crash, find the same boundaries however the items were batched.

A `LogEnd` is an immutable value. The writer replaces its own only after the bytes are written, so a failed
append changes nothing; recovery computes the same value from the records.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple
from zlib import crc32

from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, Offset
from pgshapes.shape_log.store import Entry

RECORD_BYTES: Final = 40
ENDS_TRANSACTION: Final = 1
"""The message is the last one of its transaction in this shape."""
ENDS_CHUNK: Final = 2
"""The message closes its chunk."""

_RECORD = struct.Struct(">QQQIIII")
_KEY = struct.Struct(">QQ")
_pack_fields = struct.Struct(">QQQIII").pack
_pack_checksum = struct.Struct(">I").pack

ReadRecord = Callable[[int], bytes]
"""The bytes of the record with this number."""


class Record(NamedTuple):
    """One message of a log. `position` counts bytes in the file `log`; a `,` follows the message."""

    tx: int
    op: int
    position: int
    length: int
    chunk: int
    flags: int
    checksum: int

    @property
    def offset(self) -> Offset:
        """The message's offset in the shape's log."""
        return Offset(self.tx, self.op)

    @property
    def end(self) -> int:
        """Where the next message starts."""
        return self.position + self.length + 1


def encode(offset: Offset, position: int, length: int, chunk: int, flags: int, payload_crc: int) -> bytes:
    """A record's bytes; `payload_crc` is the CRC-32 of the message alone."""
    fields = _pack_fields(offset[0], offset[1], position, length, chunk, flags)
    return fields + _pack_checksum(crc32(fields, payload_crc))


def decode(data: bytes) -> Record:
    """The record in 40 bytes; the checksum is not verified."""
    return Record._make(_RECORD.unpack(data))


def is_intact(data: bytes, payload: bytes) -> bool:
    """Whether the checksum in a record's 40 bytes fits the record and its message."""
    return is_checksum_of(data, crc32(payload))


def is_checksum_of(data: bytes, payload_crc: int) -> bool:
    """Whether the checksum in a record's 40 bytes fits the record and a message with this CRC-32."""
    return _pack_checksum(crc32(data[:36], payload_crc)) == data[36:40]


def transaction_of(data: bytes) -> int:
    """The field tx of a record."""
    return int.from_bytes(data[:8], "big")


def first_after(count: int, read: ReadRecord, offset: Offset) -> int:
    """The number of the first of `count` records with a greater offset; `count` if there is none."""
    tx, op = offset
    wanted = _KEY.pack(tx, op) if tx >= 0 else b""
    return bisect_right(range(count), wanted, key=lambda number: read(number)[:16])


def first_of_chunk(count: int, read: ReadRecord, chunk: int) -> int:
    """The number of the first of `count` records in this chunk or a later one."""
    return bisect_left(range(count), chunk, key=lambda number: decode(read(number)).chunk)


class RowChunker:
    """Divides a snapshot's rows into chunks; a row counts its bytes and one for its separator.

    Its state is the size of the open chunk. One per snapshot.
    """

    __slots__ = ("_size", "_threshold")

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._size = 0

    def runs(self, rows: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], bool]]:
        """The rows in consecutive runs; the flag says whether the last row of the run closes the chunk."""
        total = sum(map(len, rows)) + len(rows)
        if self._size + total < self._threshold:
            self._size += total
            if rows:
                yield rows, False
            return
        yield from self._split(rows)

    def _split(self, rows: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], bool]]:
        ends = list(accumulate(len(row) + 1 for row in rows))
        start, before = 0, -self._size
        while (last := bisect_left(ends, before + self._threshold, lo=start)) < len(ends):
            yield rows[start : last + 1], True
            start, before = last + 1, ends[last]
        self._size = ends[-1] - before
        if start < len(rows):
            yield rows[start:], False


class EndPosition(NamedTuple):
    """The position of a `Tail` in this store, in bytes of the file `log`."""

    latest: int
    """Up to and including the tail's `latest`."""
    last_chunk_bound: int
    """Up to and including the tail's `last_chunk_bound`."""


class LogEnd(NamedTuple):
    """The state of a log after one of its messages."""

    last: Offset = AFTER_SNAPSHOT
    """Offset of the last message."""
    position: int = 0
    """Size of the file `log` in bytes."""
    records: int = 0
    """Number of records in the file `log.index`."""
    chunk: int = 0
    """Number of the chunk that the next message belongs to."""
    chunk_size: int = 0
    """JSON bytes in that chunk."""
    chunk_bound: Offset = BEFORE_ALL
    """Offset of the last message that closed a chunk."""
    chunk_start: int = 0
    """Where the open chunk starts in the file `log`."""

    def after(self, record: Record) -> LogEnd:
        """The end after appending `record`."""
        if record.flags & ENDS_CHUNK:
            chunk = (record.chunk + 1, 0, record.offset, record.end)
        else:
            chunk = (record.chunk, self.chunk_size + record.length, self.chunk_bound, self.chunk_start)
        return LogEnd(record.offset, record.end, self.records + 1, *chunk)


class OpenRecord(NamedTuple):
    """The last record of an unfinished transaction; rewritten with a flag if it is the last one."""

    offset: Offset
    position: int
    length: int
    chunk: int
    flags: int
    payload_crc: int

    def encode_ended(self) -> bytes:
        """The record with the flag for the end of its transaction."""
        return encode(*self._replace(flags=self.flags | ENDS_TRANSACTION))


Draft = tuple[bytes, bytes, LogEnd, OpenRecord | None]
"""Bytes for `log`, bytes for `log.index`, the new end, the last record if the transaction is unfinished."""


def draft(end: LogEnd, entries: Sequence[Entry], threshold: int, *, ends_transaction: bool) -> Draft:
    """The bytes for `entries`, at least one. Raises ValueError if their offsets do not increase."""
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
