"""Offsets over the wire and their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.model.offset import (
    AFTER_SNAPSHOT,
    BEFORE_ALL,
    FIRST_SNAPSHOT_CHUNK,
    INFINITE_OP,
    Offset,
    format_offset,
    parse_offset,
)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("-1", BEFORE_ALL),
        ("-1_0", BEFORE_ALL),
        ("0_0", FIRST_SNAPSHOT_CHUNK),
        ("0_inf", AFTER_SNAPSHOT),
        ("26877408_10", Offset(26877408, 10)),
        ("007_02", Offset(7, 2)),
        ("+7_+2", Offset(7, 2)),
        (f"{2**64 - 1}_{INFINITE_OP}", Offset(2**64 - 1, INFINITE_OP)),
    ],
)
def test_an_offset_is_parsed(text: str, offset: Offset) -> None:
    assert parse_offset(text) == offset


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "1", "1_", "_1", "-2", "-1_1", "1_-1", "1_2_3", " 1_2", "1_2\n", "1_INF", "inf_1"),
        *("٣_1", "1.0_2", f"{2**64}_0", f"1_{2**63}"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="offset"):
        parse_offset(text)


def test_the_start_and_the_infinite_are_written_in_words() -> None:
    assert [str(one) for one in (BEFORE_ALL, AFTER_SNAPSHOT, Offset(5, 4))] == ["-1", "0_inf", "5_4"]


@given(st.builds(Offset, st.integers(0, 2**64 - 1), st.integers(0, INFINITE_OP)))
def test_a_formatted_offset_parses_to_itself(offset: Offset) -> None:
    assert parse_offset(format_offset(offset)) == offset


def test_the_order_is_that_of_the_log() -> None:
    ordered = [BEFORE_ALL, FIRST_SNAPSHOT_CHUNK, Offset(0, 9), AFTER_SNAPSHOT]
    ordered += [Offset(1, 0), Offset(9, 2), Offset(9, 10), Offset(10, 0)]
    assert sorted(ordered) == ordered
