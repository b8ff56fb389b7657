"""The fixed-size records of `log.index`: where each message of the file `log` lies. Pure.

40 bytes, big-endian, so that the first 16 bytes of two records compare as their offsets do: tx, op,
position (64 bits each); length, ordinal of the chunk, flags, checksum (32 bits each). The checksum (CRC-32)
covers the message's bytes and then the record's other fields, so a record vouches for both files. Every
field lies within one page of 4096 bytes, because all fields are aligned: a page that did not reach the disk
takes or leaves a field whole.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple
from zlib import crc32

from pgshapes.model.offset import Offset

RECORD_BYTES: Final = 40
ENDS_TRANSACTION: Final = 1
"""The message is the last one of its transaction in this shape."""
ENDS_CHUNK: Final = 2
"""The message closes its chunk (semantics §6)."""

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
        """The message's place in the shape's log."""
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
    """The record in 40 bytes; nothing is verified."""
    return Record._make(_RECORD.unpack(data))


def is_intact(data: bytes, payload: bytes) -> bool:
    """Whether a record's 40 bytes and its message are what was once appended."""
    return _pack_checksum(crc32(data[:36], crc32(payload))) == data[36:40]


def transaction_of(data: bytes) -> int:
    """The field tx of a record."""
    return int.from_bytes(data[:8], "big")


def first_after(count: int, read: ReadRecord, offset: Offset) -> int:
    """The number of the first of `count` records whose offset is greater, `count` if none is."""
    tx, op = offset
    wanted = _KEY.pack(tx, op) if tx >= 0 else b""
    return bisect_right(range(count), wanted, key=lambda number: read(number)[:16])


def first_of_chunk(count: int, read: ReadRecord, chunk: int) -> int:
    """The number of the first of `count` records in this chunk or a later one."""
    return bisect_left(range(count), chunk, key=lambda number: decode(read(number)).chunk)
