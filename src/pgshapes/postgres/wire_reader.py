"""Big-endian numbers and strings out of a message, each checked against its end. Pure; for the rare ones."""

from __future__ import annotations

import struct
from typing import Any


class Unreadable(Exception):
    """The bytes at `position` are not what the format says; becomes a WireError with the message's kind."""

    def __init__(self, what: str, position: int) -> None:
        super().__init__(what)
        self.position = position


class WireReader:
    """A place in a message that moves forward."""

    def __init__(self, data: bytes, position: int = 0) -> None:
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

    def int64(self) -> int:
        return int(self._number("!q"))

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
        """Text up to the next zero byte."""
        end = self._data.find(b"\0", self.position)
        if end < 0:
            raise Unreadable("text without an end", self.position)
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
