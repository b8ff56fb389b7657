"""The pgoutput decoder with an independent encoder, and with invalid bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.postgres.pgoutput_encoder import encode, number
from tests.support.postgres.pgoutput_strategies import messages

from pgshapes.errors import WireError
from pgshapes.postgres.pgoutput import decode_message
from pgshapes.postgres.pgoutput_messages import UNCHANGED, Insert, Message

HELLO = b"I" + number(16384, 4) + b"N" + number(4, 2) + b"t\0\0\0\x02hi" + b"n" + b"u" + b"t\0\0\0\0"

TWICE = b"R" + number(16384, 4) + b"s\0t\0f" + number(2, 2) + 2 * (b"\0id\0" + number(23, 4) + b"\xff" * 4)


@given(messages)
def test_every_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode_message(encode(message)) == message


def test_a_row_of_text_null_and_untouched_values() -> None:
    assert decode_message(HELLO) == Insert(16384, ("hi", None, UNCHANGED, ""))


@given(messages, st.data())
def test_a_message_cut_short_is_an_error_and_nothing_else(message: Message, data: st.DataObject) -> None:
    whole = encode(message)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(WireError):
        decode_message(whole[:length])


@given(messages, st.binary(min_size=1, max_size=3))
def test_bytes_left_over_are_an_error(message: Message, rest: bytes) -> None:
    with pytest.raises(WireError):
        decode_message(encode(message) + rest)


@given(st.sampled_from(b"BCORYIUDTM"), st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(kind: int, rest: bytes) -> None:
    try:
        decode_message(bytes([kind]) + rest)
    except WireError as error:
        assert error.details["kind"] == bytes([kind])
        assert 0 <= error.details["position"] <= len(rest) + 1


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_an_error(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_message(bytes(damaged))
    except WireError as error:
        assert 0 <= error.details["position"] <= len(damaged)


@given(st.integers(0, 255).filter(lambda kind: kind not in b"BCORYIUDTM"), st.binary(max_size=30))
@example(ord("S"), number(7, 4) + b"\1")
@example(ord("E"), b"")
@example(ord("c"), number(7, 4) + b"\0" + number(500, 8) + number(560, 8) + number(0, 8))
@example(ord("A"), number(7, 4) + number(7, 4))
def test_other_kinds_are_unknown_those_of_later_protocol_versions_too(kind: int, rest: bytes) -> None:
    with pytest.raises(WireError, match="unknown kind") as raised:
        decode_message(bytes([kind]) + rest)
    assert raised.value.details == {"kind": bytes([kind]), "position": 0}


@pytest.mark.parametrize(
    ("data", "position", "reason"),
    [
        (b"", 0, "unknown kind"),
        (b"?", 0, "unknown kind"),
        (b"b", 0, "unknown kind"),
        (b"B" + bytes(19), 20, "cut short"),
        (b"B" + bytes(21), 21, "left over"),
        (b"C" + bytes(24), 25, "cut short"),
        (b"C" + bytes(26), 26, "left over"),
        (HELLO[:10], 8, "cut short"),
        (HELLO + b"!", len(HELLO), "left over"),
        (HELLO.replace(b"N", b"K"), 5, "no new row"),
        (HELLO.replace(b"hi", b"\xff\xff"), 15, "not UTF-8"),
        (HELLO.replace(b"nu", b"nb"), 16, "column of kind 0x62"),
        (TWICE, len(TWICE), "two columns of one name"),
    ],
)
def test_an_error_says_what_and_where(data: bytes, position: int, reason: str) -> None:
    with pytest.raises(WireError, match=reason) as raised:
        decode_message(data)
    assert raised.value.details["position"] == position
