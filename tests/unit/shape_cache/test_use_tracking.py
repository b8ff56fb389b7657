"""Reports of the shapes that a process served, sent to the owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from pgshapes.model.shape_state import ShapeState
from pgshapes.shape_cache.use_tracking import UseTracking
from pgshapes.tables.calls import Call, NoteUse, Reply
from pgshapes.tables.link import InProcessLink
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables


async def test_callers_report_the_shapes_that_they_served() -> None:
    tables = Tables()
    reports: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    def handle(call: Call, context: CallContext) -> Awaitable[Reply]:
        assert isinstance(call, NoteUse)
        reports.put_nowait(call.handles)
        return asyncio.sleep(0)

    link = InProcessLink(tables, handle)
    cache = UseTracking(link)
    tables.shapes.put("a", ShapeRow(b"a", (1,), ShapeState.LIVE))
    for handle_of_client in ("a", "a", "unknown", "x" * 100):
        cache.tail(handle_of_client)  # what clients make up takes no memory
    reporting = asyncio.create_task(cache.report_periodically(interval_s=0.001))
    assert await reports.get() == ("a",)
    reporting.cancel()
    await link.close()


async def test_a_shape_for_which_a_client_waits_is_reported_each_time() -> None:
    """However long it waits; what is not a live shape is not reported."""
    tables = Tables()
    reports: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    def handle(call: Call, context: CallContext) -> Awaitable[Reply]:
        assert isinstance(call, NoteUse)
        reports.put_nowait(call.handles)
        return asyncio.sleep(0)

    link = InProcessLink(tables, handle)
    cache = UseTracking(link)
    tables.shapes.put("a", ShapeRow(b"a", (1,), ShapeState.LIVE))
    waits = [asyncio.ensure_future(cache.tail_changed(one)) for one in ("a", "gone")]
    reporting = asyncio.create_task(cache.report_periodically(interval_s=0.001))
    assert [await reports.get() for _ in range(3)] == [("a",)] * 3
    for one in (*waits, reporting):
        one.cancel()
    await link.close()
