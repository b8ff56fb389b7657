"""The fields of XLogData, keepalive and status messages."""

from __future__ import annotations

import struct

import pytest

from pgshapes.errors import WireError
from pgshapes.postgres.replication import (
    PAYLOAD_START,
    Keepalive,
    decode_keepalive,
    encode_status,
    positions_of,
)


def test_a_message_is_behind_the_positions() -> None:
    data = struct.pack("!cQQQ", b"w", 5, 7, 9) + b"B..."
    assert positions_of(data) == (5, 7)
    assert data[PAYLOAD_START:] == b"B..."


@pytest.mark.parametrize("wants_reply", [True, False])
def test_a_keepalive_says_whether_it_wants_a_reply(wants_reply: bool) -> None:
    data = struct.pack("!cQQB", b"k", 2**64 - 1, 9, wants_reply)
    assert decode_keepalive(memoryview(data)) == Keepalive(2**64 - 1, wants_reply)


@pytest.mark.parametrize("data", [b"", b"k", b"x" * 18, struct.pack("!cQQB", b"k", 1, 2, 0) + b"!"])
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_keepalive(data)


@pytest.mark.parametrize("data", [b"w", b"w" * PAYLOAD_START])
def test_an_envelope_without_a_message_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        positions_of(data)


@pytest.mark.parametrize(("received", "flushed", "told"), [(9, 7, 9), (7, 9, 9), (0, 0, 0)])
def test_the_fields_of_a_status(received: int, flushed: int, told: int) -> None:
    status = encode_status(received, flushed, now_s=946_684_801.5)
    assert struct.unpack("!cQQQqB", status) == (b"r", told, flushed, flushed, 1_500_000, 0)
