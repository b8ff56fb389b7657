"""The boundary up to which the WAL may be acknowledged, with holds."""

from __future__ import annotations

from pgshapes.routing.flush_boundary import FlushBoundary


def test_without_holds_the_processed_end_is_acknowledgeable() -> None:
    boundary = FlushBoundary(100)
    assert boundary.acknowledgeable() == 100
    boundary.advance(250)
    assert (boundary.processed, boundary.acknowledgeable()) == (250, 250)


def test_the_end_never_moves_back() -> None:
    boundary = FlushBoundary(100)
    boundary.advance(250)
    boundary.advance(200)
    assert boundary.processed == boundary.acknowledgeable() == 250


def test_a_hold_limits_the_boundary() -> None:
    boundary = FlushBoundary(100)
    hold = boundary.hold()
    boundary.advance(250)
    assert (boundary.processed, boundary.acknowledgeable()) == (250, 100)
    boundary.release(hold)
    assert boundary.acknowledgeable() == 250


def test_the_oldest_of_several_holds_decides_in_whatever_order_they_end() -> None:
    boundary = FlushBoundary(100)
    first = boundary.hold()
    boundary.advance(200)
    second, third = boundary.hold(), boundary.hold()
    boundary.advance(300)
    boundary.release(second)
    assert boundary.acknowledgeable() == 100
    boundary.release(first)
    assert boundary.acknowledgeable() == 200
    boundary.release(third)
    assert boundary.acknowledgeable() == 300


def test_a_hold_ends_once_and_an_unknown_one_not_at_all() -> None:
    boundary = FlushBoundary(100)
    ended = boundary.hold()
    boundary.release(ended)
    kept = boundary.hold()
    boundary.advance(200)
    boundary.release(ended)
    boundary.release(kept + 1)
    assert boundary.acknowledgeable() == 100
