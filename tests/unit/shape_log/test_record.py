from __future__ import annotations

from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from pgshapes.model.offset import AFTER_SNAPSHOT, BEFORE_ALL, INFINITE_OP, Offset
from pgshapes.shape_log.file_store.format import (
    ENDS_CHUNK,
    RECORD_BYTES,
    Record,
    decode,
    encode,
    first_after,
    first_of_chunk,
    is_intact,
    transaction_of,
)

offsets = st.builds(Offset, st.integers(1, 2**64 - 1), st.integers(0, INFINITE_OP))
numbers = st.integers(0, 2**32 - 1)


@given(offsets, st.integers(0, 2**64 - 1), numbers, numbers, st.integers(0, 3), st.binary(max_size=50))
def test_encoding_and_decoding_a_record(
    offset: Offset, position: int, length: int, chunk: int, flags: int, payload: bytes
) -> None:
    data = encode(offset, position, length, chunk, flags, crc32(payload))
    assert len(data) == RECORD_BYTES
    record = decode(data)
    assert record[:6] == (*offset, position, length, chunk, flags)
    assert record.offset == offset
    assert record.end == position + length + 1
    assert transaction_of(data) == offset.tx
    assert is_intact(data, payload)


@given(st.binary(max_size=50), st.integers(0, RECORD_BYTES * 8 - 1))
def test_any_changed_bit_of_a_record_is_detected(payload: bytes, bit: int) -> None:
    data = bytearray(encode(Offset(7, 8), 9, len(payload), 0, ENDS_CHUNK, crc32(payload)))
    data[bit // 8] ^= 1 << bit % 8
    assert not is_intact(bytes(data), payload)


@given(st.binary(min_size=1, max_size=50), st.data())
def test_any_changed_bit_of_a_message_is_detected(payload: bytes, data: st.DataObject) -> None:
    record = encode(Offset(7, 8), 9, len(payload), 0, 0, crc32(payload))
    damaged = bytearray(payload)
    damaged[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert not is_intact(record, bytes(damaged))


def test_zeros_are_not_a_record() -> None:
    assert not is_intact(bytes(RECORD_BYTES), b"")


@given(st.lists(offsets, unique=True, max_size=30).map(sorted), offsets)
def test_the_first_record_after_an_offset(places: list[Offset], wanted: Offset) -> None:
    records = [encode(place, 0, 0, 0, 0, 0) for place in places]
    for offset in (wanted, BEFORE_ALL, AFTER_SNAPSHOT, *places):
        expected = sum(place <= offset for place in places)
        assert first_after(len(records), records.__getitem__, offset) == expected


@given(st.lists(st.integers(0, 5), max_size=30).map(sorted), st.integers(0, 6))
def test_the_first_record_of_a_chunk(chunks: list[int], wanted: int) -> None:
    records = [encode(Offset(1, number), 0, 0, chunk, 0, 0) for number, chunk in enumerate(chunks)]
    expected = sum(chunk < wanted for chunk in chunks)
    assert first_of_chunk(len(records), records.__getitem__, wanted) == expected


def test_a_record_is_a_plain_value() -> None:
    data = encode(Offset(1, 2), 3, 4, 5, 1, 6)
    assert decode(data) == Record(1, 2, 3, 4, 5, 1, int.from_bytes(data[36:], "big"))
