"""Messages of the replication protocol as bytes, and what a few of their fields say. Pure.

Read with the manual only (Streaming Replication Protocol), to judge the decoder.
"""

from __future__ import annotations

from typing import Final

PAYLOAD: Final = 25
"""Where the pgoutput message starts in XLogData."""


def number_at(data: bytes, position: int, width: int) -> int:
    """An unsigned number; bytes that are missing count as if they were not there."""
    return int.from_bytes(data[position : position + width], "big")


def with_number(data: bytes, position: int, width: int, value: int) -> bytes:
    """The bytes with another number at a position."""
    number = value & ((1 << (8 * width)) - 1)
    return data[:position] + number.to_bytes(width, "big") + data[position + width :]


def xlog_data(payload: bytes, lsn: int, time: int = 0) -> bytes:
    """A message with its position."""
    return b"w" + lsn.to_bytes(8, "big") * 2 + time.to_bytes(8, "big") + payload


def keepalive(wal_end: int, *, wants_reply: bool = False) -> bytes:
    """A primary keepalive message."""
    return b"k" + wal_end.to_bytes(8, "big") + bytes(8) + bytes([wants_reply])


def payload_of(envelope: bytes) -> bytes:
    """The pgoutput message in XLogData; empty for anything else."""
    return envelope[PAYLOAD:] if envelope[:1] == b"w" else b""


def lsn_of(envelope: bytes) -> int:
    """The position in the head of XLogData or of a keepalive."""
    return number_at(envelope, 1, 8)


def oid_of(payload: bytes) -> int:
    """The relation that a message of kind I, U, D or R names."""
    return number_at(payload, 1, 4)


def truncated(payload: bytes) -> tuple[int, ...]:
    """The relations that a message of kind T names."""
    return tuple(number_at(payload, 6 + 4 * n, 4) for n in range((len(payload) - 6) // 4))
