"""pgoutput's decoder against an independent encoder, and against bytes that nobody would send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.postgres.pgoutput_encoder import encode, number
from tests.support.postgres.pgoutput_strategies import plain_messages, streamed_messages

from pgshapes.errors import WireError
from pgshapes.postgres.pgoutput import PgoutputDecoder
from pgshapes.postgres.pgoutput_messages import UNCHANGED, Insert, Message, StreamStart, StreamStop

HELLO = b"I" + number(16384, 4) + b"N" + number(4, 2) + b"t\0\0\0\x02hi" + b"n" + b"u" + b"t\0\0\0\0"


@given(plain_messages)
def test_every_message_is_read_as_it_was_written(message: Message) -> None:
    assert PgoutputDecoder().decode(encode(message)) == message


@given(streamed_messages, plain_messages)
def test_messages_in_a_streamed_block_carry_their_transaction(inside: Message, outside: Message) -> None:
    decoder = PgoutputDecoder()
    for message in (StreamStart(7, True), inside, StreamStop(), outside):
        assert decoder.decode(encode(message)) == message


def test_a_row_of_text_null_and_untouched_values() -> None:
    assert PgoutputDecoder().decode(HELLO) == Insert(16384, ("hi", None, UNCHANGED, ""))


@given(plain_messages, st.data())
def test_a_message_cut_short_is_an_error_and_nothing_else(message: Message, data: st.DataObject) -> None:
    whole = encode(message)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(WireError):
        PgoutputDecoder().decode(whole[:length])


@given(plain_messages, st.binary(min_size=1, max_size=3))
def test_bytes_left_over_are_an_error(message: Message, rest: bytes) -> None:
    with pytest.raises(WireError):
        PgoutputDecoder().decode(encode(message) + rest)


@given(st.sampled_from(b"BCORYIUDTMSEcA"), st.binary(max_size=60), st.booleans())
def test_any_bytes_are_a_message_or_an_error(kind: int, rest: bytes, in_stream: bool) -> None:
    decoder = PgoutputDecoder()
    if in_stream:
        decoder.decode(encode(StreamStart(7, True)))
    try:
        decoder.decode(bytes([kind]) + rest)
    except WireError as error:
        assert error.details["kind"] == bytes([kind])
        assert 0 <= error.details["position"] <= len(rest) + 1


@given(plain_messages, st.data())
def test_a_damaged_message_is_a_message_or_an_error(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        PgoutputDecoder().decode(bytes(damaged))
    except WireError as error:
        assert 0 <= error.details["position"] <= len(damaged)


@pytest.mark.parametrize(
    ("data", "position", "reason"),
    [
        (b"", 0, "unknown kind"),
        (b"?", 0, "unknown kind"),
        (b"b", 0, "unknown kind"),
        (HELLO[:10], 8, "cut short"),
        (HELLO + b"!", len(HELLO), "left over"),
        (HELLO.replace(b"N", b"K"), 5, "no new row"),
        (HELLO.replace(b"hi", b"\xff\xff"), 15, "not UTF-8"),
        (HELLO.replace(b"nu", b"nb"), 16, "column of kind 0x62"),
    ],
)
def test_an_error_says_what_and_where(data: bytes, position: int, reason: str) -> None:
    with pytest.raises(WireError, match=reason) as raised:
        PgoutputDecoder().decode(data)
    assert raised.value.details["position"] == position
