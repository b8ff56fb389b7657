"""Decodes pgoutput messages (manual: Logical Replication Message Formats, protocol version 1). Pure.

Not here: the XLogData header (`replication`), and assembling transactions (`routing.assembler`). All values
are text: the binary format is never requested. Messages of later protocol versions are unknown.

Invariant: a message is decoded to its last byte. For any input the result is a message, or a WireError with
the kind of message and the position of the error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from pgshapes.errors import WireError
from pgshapes.postgres.pgoutput_messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Identity,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    RelationColumn,
    RelationMessage,
    Truncate,
    Tuple,
    TypeMessage,
    Unchanged,
    Update,
)


class Unreadable(Exception):
    """The bytes at `position` violate the format; becomes a WireError with the kind of message."""

    def __init__(self, what: str, position: int) -> None:
        super().__init__(what)
        self.position = position


class WireReader:
    """Reads a message field by field. For rare messages only: it needs a call per field."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    def uint8(self) -> int:
        return int(self._number("!B"))

    def uint16(self) -> int:
        return int(self._number("!H"))

    def int32(self) -> int:
        return int(self._number("!i"))

    def uint32(self) -> int:
        return int(self._number("!I"))

    def uint64(self) -> int:
        return int(self._number("!Q"))

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        start, end = self.position, self.position + length
        if end > len(self._data):
            raise Unreadable("message cut short", len(self._data))
        self.position = end
        return self._data[start:end]

    def string(self) -> str:
        """The text up to the next zero byte."""
        end = self._data.find(b"\0", self.position)
        if end < 0:
            raise Unreadable("unterminated text", self.position)
        raw, start, self.position = self._data[self.position : end], self.position, end + 1
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Unreadable("text that is not UTF-8", start) from None

    def _number(self, form: str) -> Any:
        try:
            (number,) = struct.unpack_from(form, self._data, self.position)
        except struct.error:
            raise Unreadable("message cut short", len(self._data)) from None
        self.position += struct.calcsize(form)
        return number


_uint16_at = struct.Struct("!H").unpack_from
_uint32_at = struct.Struct("!I").unpack_from
_oid_and_mark_at = struct.Struct("!IB").unpack_from
_BEGIN: Final = struct.Struct("!xQqI")
_COMMIT: Final = struct.Struct("!xxQQq")

_TEXT: Final = ord("t")
_NULL: Final = ord("n")
_UNTOUCHED: Final = ord("u")
_NEW: Final = ord("N")
_IDENTITIES: Final = {ord(identity.value): identity for identity in Identity}


def decode_message(data: bytes) -> Message:
    """The message. Raises WireError, after which the connection must not be used."""
    kind = data[:1]
    read = _READERS.get(kind)
    if read is None:
        raise WireError(f"unknown kind of pgoutput message {kind!r}", kind=kind, position=0)
    try:
        return read(data)
    except Unreadable as error:
        raise WireError(
            f"pgoutput message {kind!r} of {len(data)} bytes: {error} at byte {error.position}",
            kind=kind,
            position=error.position,
        ) from None


def _tuple(data: bytes, position: int) -> tuple[Tuple, int]:
    """The row at `position` and the position after it. Most of the decoding time is spent here."""
    values: list[str | Unchanged | None] = []
    append = values.append
    try:
        count: int = _uint16_at(data, position)[0]
        position += 2
        for _ in range(count):
            kind = data[position]
            if kind == _TEXT:
                start = position + 5
                position = start + _uint32_at(data, position + 1)[0]
                append(data[start:position].decode())
            elif kind == _NULL:
                append(None)
                position += 1
            elif kind == _UNTOUCHED:
                append(UNCHANGED)
                position += 1
            else:
                raise Unreadable(f"column of kind {kind:#x}", position)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise Unreadable("row cut short or not UTF-8", min(position, len(data))) from None
    if position > len(data):
        raise Unreadable("row cut short", len(data))
    return tuple(values), position


def _oid_and_mark(data: bytes) -> tuple[int, int]:
    """The start of a row message: relation oid, and the kind of the tuple that starts at byte 6."""
    try:
        oid, mark = _oid_and_mark_at(data, 1)
    except struct.error:
        raise Unreadable("message cut short", len(data)) from None
    return oid, mark


def _ends_at(data: bytes, position: int) -> None:
    if position != len(data):
        raise Unreadable("bytes left over", position)


def _insert(data: bytes) -> Insert:
    oid, mark = _oid_and_mark(data)
    if mark != _NEW:
        raise Unreadable("no new row", 5)
    new, position = _tuple(data, 6)
    _ends_at(data, position)
    return Insert(oid, new)


def _update(data: bytes) -> Update:
    oid, mark = _oid_and_mark(data)
    position = 6
    identity = _IDENTITIES.get(mark)
    old: Tuple | None = None
    if identity is not None:
        old, position = _tuple(data, position)
        mark = data[position] if position < len(data) else 0
        position += 1
    if mark != _NEW:
        raise Unreadable("no new row", position - 1)
    new, position = _tuple(data, position)
    _ends_at(data, position)
    return Update(oid, identity, old, new)


def _delete(data: bytes) -> Delete:
    oid, mark = _oid_and_mark(data)
    identity = _IDENTITIES.get(mark)
    if identity is None:
        raise Unreadable("no old row", 5)
    old, position = _tuple(data, 6)
    _ends_at(data, position)
    return Delete(oid, identity, old)


def _begin(data: bytes) -> Begin:
    try:
        return Begin(*_BEGIN.unpack(data))
    except struct.error:
        raise _wrong_length(data, _BEGIN.size) from None


def _commit(data: bytes) -> Commit:
    try:
        return Commit(*_COMMIT.unpack(data))
    except struct.error:
        raise _wrong_length(data, _COMMIT.size) from None


def _wrong_length(data: bytes, size: int) -> Unreadable:
    if len(data) < size:
        return Unreadable("message cut short", len(data))
    return Unreadable("bytes left over", size)


def _origin(reader: WireReader) -> Origin:
    return Origin(origin_lsn=reader.uint64(), name=reader.string())


def _relation(reader: WireReader) -> RelationMessage:
    oid, schema, name = reader.uint32(), reader.string() or "pg_catalog", reader.string()
    replica_identity = chr(reader.uint8())
    columns = tuple(_column(reader) for _ in range(reader.uint16()))
    if len({column.name for column in columns}) < len(columns):
        raise Unreadable("two columns of one name", reader.position)
    return RelationMessage(oid, schema, name, replica_identity, columns)


def _column(reader: WireReader) -> RelationColumn:
    is_key = bool(reader.uint8() & 1)
    return RelationColumn(reader.string(), reader.uint32(), reader.int32(), is_key)


def _type(reader: WireReader) -> TypeMessage:
    return TypeMessage(reader.uint32(), reader.string() or "pg_catalog", reader.string())


def _truncate(reader: WireReader) -> Truncate:
    count, options = reader.uint32(), reader.uint8()
    oids = tuple(reader.uint32() for _ in range(count))
    return Truncate(oids, bool(options & 1), bool(options & 2))


def _logical_message(reader: WireReader) -> LogicalMessage:
    flags, lsn, prefix = reader.uint8(), reader.uint64(), reader.string()
    return LogicalMessage(bool(flags & 1), lsn, prefix, reader.take(reader.uint32()))


_Reader = Callable[[bytes], Message]


def _whole(read: Callable[[WireReader], Message]) -> _Reader:
    """A decoder that uses a `WireReader` and checks that the whole message was read."""

    def read_whole(data: bytes) -> Message:
        reader = WireReader(data, 1)
        message = read(reader)
        _ends_at(data, reader.position)
        return message

    return read_whole


_READERS: Final[dict[bytes, _Reader]] = {
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"B": _begin,
    b"C": _commit,
    b"O": _whole(_origin),
    b"R": _whole(_relation),
    b"Y": _whole(_type),
    b"T": _whole(_truncate),
    b"M": _whole(_logical_message),
}
