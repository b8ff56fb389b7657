"""Which shapes go when there are more than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable

import pytest

from pgshapes.shape_cache.expiry import ShapeExpiry, UseTracking
from pgshapes.tables.calls import Call, NoteUse, Reply
from pgshapes.tables.link import InProcessLink
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables


class Ended:
    """Takes the cleaner's place: remembers what was to go."""

    def __init__(self) -> None:
        self.handles: list[str] = []

    def end(self, handles: Iterable[str], reason: str) -> None:
        self.handles.extend(handles)


class Clock:
    """Time that moves when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def put_shape(
    tables: Tables, handle: str, *, last_used: float | None = 1.0, is_retiring: bool = False
) -> None:
    tables.shapes.put(handle, ShapeRow(handle.encode(), 1, last_used=last_used, is_retiring=is_retiring))


@pytest.fixture
def tables() -> Tables:
    return Tables()


async def test_the_shapes_that_were_not_read_for_longest_go(tables: Tables) -> None:
    ended, clock = Ended(), Clock()
    expiry = ShapeExpiry(tables, ended, 2, clock=clock)  # type: ignore[arg-type]
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
    assert ShapeExpiry(tables, ended, 2).expire() == []  # type: ignore[arg-type]
    assert ended.handles == []


async def test_a_shape_that_is_being_created_or_removed_does_not_count(tables: Tables) -> None:
    ended = Ended()
    put_shape(tables, "a")
    put_shape(tables, "new", last_used=None)
    put_shape(tables, "gone", is_retiring=True)
    assert ShapeExpiry(tables, ended, 1).expire() == []  # type: ignore[arg-type]


async def test_callers_tell_the_owner_what_they_read(tables: Tables) -> None:
    told: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    def handle(call: Call, context: CallContext) -> Awaitable[Reply]:
        assert isinstance(call, NoteUse)
        told.put_nowait(call.handles)
        return asyncio.sleep(0)

    link = InProcessLink(tables, handle)
    cache = UseTracking(link)
    put_shape(tables, "a")
    cache.tail("a")
    cache.tail("a")
    reporting = asyncio.create_task(cache.report_for_ever(interval_s=0.001))
    assert await told.get() == ("a",)
    reporting.cancel()
    await link.close()
