"""Which transactions a snapshot contains, also when transaction ids wrap around."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgshapes.model.visibility import SnapshotVisibility, xid_precedes

WRAP = 2**32
XIDS = st.integers(0, WRAP - 1)


@pytest.mark.parametrize(
    ("left", "right", "precedes"),
    [
        (3, 4, True),
        (4, 3, False),
        (4, 4, False),
        (WRAP - 1, 3, True),
        (3, WRAP - 1, False),
        (7, 5 * WRAP + 8, True),
        (7, 5 * WRAP + 7, False),
        (9, 5 * WRAP + 8, False),
    ],
)
def test_an_xid_precedes_another_modulo_its_width(left: int, right: int, precedes: bool) -> None:
    assert xid_precedes(left, right) is precedes


@given(XIDS, st.integers(1, 2**31 - 1))
def test_of_two_xids_less_than_half_the_range_apart_one_precedes(left: int, distance: int) -> None:
    right = (left + distance) % WRAP
    assert xid_precedes(left, right)
    assert not xid_precedes(right, left)


def test_a_snapshot_sees_what_had_ended_when_it_was_taken() -> None:
    snapshot = SnapshotVisibility(10, 20, (10, 15), 500)
    assert [xid for xid in range(8, 23) if snapshot.sees_xid(xid)] == [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_a_snapshot_across_the_wraparound_sees_the_same(epoch: int) -> None:
    start = (epoch + 1) * WRAP - 5
    snapshot = SnapshotVisibility(start, start + 10, (start, start + 7), 500)
    seen = [shift for shift in range(-2, 13) if snapshot.sees_xid((start + shift) % WRAP)]
    assert seen == [-2, -1, 1, 2, 3, 4, 5, 6, 8, 9]


@settings(max_examples=50)
@given(st.integers(3, 2**63), st.integers(0, 1000), st.data())
def test_32_bit_xids_compare_as_64_bit_xids(xmin: int, width: int, data: st.DataObject) -> None:
    xmax = xmin + width
    running = tuple(data.draw(st.sets(st.integers(xmin, xmax - 1), max_size=5))) if width else ()
    xid = data.draw(st.integers(max(xmin - 1000, 0), xmax + 1000))
    expected = xid < xmax and xid not in running
    assert SnapshotVisibility(xmin, xmax, running, 0).sees_xid(xid % WRAP) is expected


def test_what_was_committed_past_the_insert_position_is_not_in_the_snapshot() -> None:
    snapshot = SnapshotVisibility(10, 20, (15,), 500)
    assert snapshot.contains(12, 500)
    assert not snapshot.contains(12, 501)
    assert not snapshot.contains(15, 400)
    assert not snapshot.contains(20, 400)
