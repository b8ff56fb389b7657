"""The envelope around pgoutput: what the walsender sends and what it wants to hear (manual: Streaming
Replication Protocol). Pure.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from pgshapes.errors import WireError
from pgshapes.model.lsn import Lsn

PAYLOAD_START: Final = 25
"""Where the message begins in XLogData: behind its kind, start, end and time."""

_end_at = struct.Struct("!8xQ").unpack_from
_keepalive_at = struct.Struct("!QQB")
_status = struct.Struct("!cQQQqB")
_EPOCH_S: Final = 946_684_800
"""2000-01-01 in seconds since 1970; Postgres counts its microseconds from there."""


class Keepalive(NamedTuple):
    """The server has nothing to send but its position."""

    wal_end: Lsn
    wants_reply: bool


def wal_end_of(data: bytes | memoryview) -> Lsn:
    """The position that XLogData carries. Raises WireError when there is no message in it."""
    if len(data) <= PAYLOAD_START:
        raise WireError(f"XLogData of {len(data)} bytes")
    end: Lsn = _end_at(data, 1)[0]
    return end


def decode_keepalive(data: bytes | memoryview) -> Keepalive:
    """A primary keepalive message. Raises WireError for anything else."""
    if data[:1] != b"k" or len(data) != 1 + _keepalive_at.size:
        raise WireError(f"unknown replication message {bytes(data[:1])!r} of {len(data)} bytes")
    wal_end, _, wants_reply = _keepalive_at.unpack_from(data, 1)
    return Keepalive(wal_end, bool(wants_reply))


def encode_status(received: Lsn, flushed: Lsn, now_s: float) -> bytes:
    """A standby status update: up to where WAL has come in, and up to where the server may forget it."""
    microseconds = int((now_s - _EPOCH_S) * 1_000_000)
    return _status.pack(b"r", max(received, flushed), flushed, flushed, microseconds, 0)
