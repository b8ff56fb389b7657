from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.model.offset import Offset
from pgshapes.shape_log.file_store.format import (
    ENDS_CHUNK,
    ENDS_TRANSACTION,
    RECORD_BYTES,
    LogEnd,
    Record,
    decode,
    draft,
    is_intact,
)
from pgshapes.shape_log.store import Entry

messages = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=30)


def _entries(texts: list[bytes], first: int = 0) -> list[Entry]:
    return [Entry(Offset(9, first + number), text) for number, text in enumerate(texts)]


def _records(index: bytes) -> list[Record]:
    return [decode(index[at : at + RECORD_BYTES]) for at in range(0, len(index), RECORD_BYTES)]


@given(messages, st.integers(1, 60), st.integers(0, 30))
def test_two_appends_are_one(texts: list[bytes], threshold: int, cut: int) -> None:
    entries = _entries(texts)
    whole = draft(LogEnd(), entries, threshold, ends_transaction=True)
    if not 0 < cut < len(entries):
        return
    log, index, end, _ = draft(LogEnd(), entries[:cut], threshold, ends_transaction=False)
    more_log, more_index, end, _ = draft(end, entries[cut:], threshold, ends_transaction=True)
    assert (log + more_log, index + more_index, end) == whole[:3]


@given(messages, st.integers(1, 60))
def test_the_records_tell_the_same_end(texts: list[bytes], threshold: int) -> None:
    log, index, end, _ = draft(LogEnd(), _entries(texts), threshold, ends_transaction=True)
    found = LogEnd()
    for record in _records(index):
        found = found.after(record)
    assert found == end
    assert end.position == len(log)


@given(messages, st.integers(1, 60))
def test_each_record_describes_its_message(texts: list[bytes], threshold: int) -> None:
    log, index, _, _ = draft(LogEnd(), _entries(texts), threshold, ends_transaction=True)
    size = 0
    for number, record in enumerate(_records(index)):
        payload = log[record.position : record.position + record.length]
        assert payload == texts[number]
        assert log[record.end - 1 : record.end] == b","
        assert is_intact(index[number * RECORD_BYTES : (number + 1) * RECORD_BYTES], payload)
        size += record.length
        assert bool(record.flags & ENDS_CHUNK) == (size >= threshold)
        assert bool(record.flags & ENDS_TRANSACTION) == (number == len(texts) - 1)
        if size >= threshold:
            size = 0


@given(messages, st.integers(1, 60))
def test_an_end_that_comes_later_makes_the_same_record(texts: list[bytes], threshold: int) -> None:
    entries = _entries(texts)
    _, index, end, open_record = draft(LogEnd(), entries, threshold, ends_transaction=False)
    ended = draft(LogEnd(), entries, threshold, ends_transaction=True)
    assert open_record is not None and ended[3] is None
    assert index[:-RECORD_BYTES] + open_record.encode_ended() == ended[1]
    assert end == ended[2]


def test_offsets_grow() -> None:
    end = draft(LogEnd(), _entries([b"1", b"2"]), 10, ends_transaction=True)[2]
    for entries in (_entries([b"1"]), _entries([b"1"], 1), [Entry(Offset(0, 5), b"1")]):
        with pytest.raises(ValueError, match="offset"):
            draft(end, entries, 10, ends_transaction=True)
    assert draft(end, _entries([b"1"], 2), 10, ends_transaction=True)[2].records == 3
