"""Which shapes are removed when there are more than `max_shapes`."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pgshapes.model.shape_state import ShapeState
from pgshapes.owner.removal import ShapeExpiry
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables


class Ended:
    """A cleaner that records the handles that it is given."""

    def __init__(self) -> None:
        self.handles: list[str] = []

    def end(self, handles: Iterable[str], reason: str) -> None:
        self.handles.extend(handles)


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def put_shape(tables: Tables, handle: str, state: ShapeState = ShapeState.LIVE) -> None:
    tables.shapes.put(handle, ShapeRow(handle.encode(), (1,), state))


@pytest.fixture
def tables() -> Tables:
    return Tables()


async def test_the_least_recently_read_shapes_are_removed(tables: Tables) -> None:
    ended, clock = Ended(), Clock()
    expiry = ShapeExpiry(tables, ended, 2, clock=clock)  # type: ignore[arg-type]  # not the cleaner
    for handle in ("a", "b", "c", "d"):
        clock.now += 1
        put_shape(tables, handle)
        expiry.note_use([handle])
    clock.now += 1
    expiry.note_use(["a"])
    assert expiry.expire() == ["b", "c"]
    assert ended.handles == ["b", "c"]


async def test_shapes_within_the_limit_stay(tables: Tables) -> None:
    ended = Ended()
    put_shape(tables, "a")
    put_shape(tables, "b")
    assert ShapeExpiry(tables, ended, 2).expire() == []  # type: ignore[arg-type]  # not the cleaner
    assert ended.handles == []


async def test_a_shape_that_is_being_created_or_removed_does_not_count(tables: Tables) -> None:
    ended = Ended()
    put_shape(tables, "a")
    put_shape(tables, "new", ShapeState.CREATING)
    put_shape(tables, "gone", ShapeState.RETIRING)
    assert ShapeExpiry(tables, ended, 1).expire() == []  # type: ignore[arg-type]


async def test_many_more_shapes_than_the_limit_are_removed_when_one_is_created(tables: Tables) -> None:
    """Not only at the next interval; and not with each creation, because a removal takes time."""
    ended, clock = Ended(), Clock()
    expiry = ShapeExpiry(tables, ended, 10, clock=clock)  # type: ignore[arg-type]  # not the cleaner
    for number in range(11):
        put_shape(tables, str(number))
        expiry.note_created()
    assert ended.handles == []
    put_shape(tables, "11")
    expiry.note_created()
    assert ended.handles == ["0", "1"]
    expiry.note_created()
    assert ended.handles == ["0", "1"]
    clock.now += 1
    expiry.note_created()
    assert ended.handles == ["0", "1"] * 2, "these have not been removed yet"
