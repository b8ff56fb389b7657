"""The callers' side, with an owner that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.errors import CreationFailed, NotNow, OwnerTimeout, OwnerUnavailable, PgShapesError
from pgshapes.model.shape import RawShape
from pgshapes.model.shape_state import ShapeState
from pgshapes.model.tail import Tail
from pgshapes.owner.creations import CreationLocks
from pgshapes.shape_cache import definitions
from pgshapes.shape_cache.shape_cache import LOCK_TEXT, RETRY_TEXT, ShapeCache
from pgshapes.tables.calls import Call, CreateOrWaitShapeHandle, Reply, ResolveShape
from pgshapes.tables.link import InProcessLink
from pgshapes.tables.required_version import EPOCH
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables
from pgshapes.waiting import poll_wait

SHAPE = shape_of()
KEY = SHAPE.comparable


class Link:
    """A link to an owner in the same loop; `answer` is what it does with a call."""

    def __init__(self, *, has_notices: bool = True) -> None:
        self.tables = Tables(has_notices=has_notices)
        self.locks = CreationLocks(self.tables)
        self.calls: list[Call] = []
        self.answer: Callable[[Call], Awaitable[Reply]] = self.never
        self.is_connected = self.is_following = True
        self.back = asyncio.Event()

    @property
    def epoch(self) -> int:
        return self.tables.epoch

    async def connected(self) -> None:
        await self.back.wait()

    async def call(self, call: Call, *, timeout_s: float) -> Reply:
        self.calls.append(call)
        return await self.answer(call)

    async def barrier(self, *, timeout_s: float) -> None:
        """The tables are the owner's."""

    async def never(self, call: Call) -> Reply:
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        return await answer

    async def away(self, call: Call) -> Reply:
        raise OwnerUnavailable("away")

    def make(self, handle: str = "h") -> None:
        """Make the shape ready."""
        with self.tables.transaction():
            self.tables.tails.put(handle, Tail())
            self.tables.shapes.put(handle, ShapeRow(KEY, (1,), ShapeState.LIVE))
            self.tables.handles.put(KEY, handle)

    async def made(self, call: Call) -> Reply:
        self.make()
        return "h"


class Time:
    """A clock that only sleeping advances; records the sleeps."""

    def __init__(self, at_sleep: Callable[[int], None] = lambda number: None) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []
        self._at_sleep = at_sleep

    async def sleep(self, duration_s: float) -> None:
        self.sleeps.append(duration_s)
        self.now += duration_s
        self._at_sleep(len(self.sleeps))

    @property
    def poll(self) -> Any:
        return partial(poll_wait.until, clock=lambda: self.now, sleep=self.sleep, random=lambda: 0.5)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def ask(cache: ShapeCache, count: int = 1, timeout_s: float = 60) -> list[asyncio.Task[tuple[str, Tail]]]:
    asked = (cache.get_or_create_shape_handle(SHAPE, timeout_s) for _ in range(count))
    return [asyncio.create_task(each) for each in asked]


async def test_a_known_shape_needs_no_flight() -> None:
    link = Link()
    link.make()
    cache = ShapeCache(link)
    assert (await cache.get_or_create_shape_handle(SHAPE))[0] == "h"
    assert (link.calls, cache.flights.begun, cache.counts.hits) == ([], 0, 1)


async def test_a_herd_is_one_call() -> None:
    link = Link()
    cache = ShapeCache(link)
    waiting = ask(cache, 2000)
    await turns()
    assert len(link.calls) == 1
    assert (cache.flights.begun, cache.flights.waiters) == (1, 2000)
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    assert cache.flights.waiters == 0


async def test_all_waiters_get_the_result_of_the_call() -> None:
    link = Link()
    link.answer = link.made
    cache = ShapeCache(link)
    assert {handle for handle, _ in await asyncio.gather(*ask(cache, 300))} == {"h"}
    assert link.calls == [CreateOrWaitShapeHandle(SHAPE)]


@pytest.mark.parametrize("has_notices", [True, False])
async def test_while_the_lock_is_set_no_message_is_sent(has_notices: bool) -> None:
    link = Link(has_notices=has_notices)
    token = link.locks.claim(KEY)
    cache = ShapeCache(link)
    waiting = ask(cache, 100)
    await turns()
    link.make()
    link.locks.clear(KEY, token)
    assert {handle for handle, _ in await asyncio.gather(*waiting)} == {"h"}
    assert (link.calls, cache.counts.lock_hits) == ([], 1)
    assert cache.counts.polls_per_wait.count == 1


async def test_the_cadence_of_polls() -> None:
    link = Link(has_notices=False)
    token = link.locks.claim(KEY)

    def at_sleep(number: int) -> None:
        if number == 8:
            link.make()
            link.locks.clear(KEY, token)

    time = Time(at_sleep)
    await asyncio.gather(*ask(ShapeCache(link, poll=time.poll), 50))
    assert time.sleeps == pytest.approx([0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.1, 0.1])


async def test_a_failure_that_is_removed_in_the_same_turn_is_seen() -> None:
    link = Link()
    token = link.locks.claim(KEY)
    waiting = ask(ShapeCache(link), 10)
    await turns()
    link.locks.fail(KEY, token, CreationFailed("permission denied"))
    link.locks.clear(KEY, token)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(result) for result in results} == {"permission denied"}
    assert link.calls == []


async def test_a_recent_failure_answers_at_once() -> None:
    link = Link()
    link.locks.fail(KEY, link.locks.claim(KEY), CreationFailed("permission denied"))
    cache = ShapeCache(link)
    results = await asyncio.gather(*ask(cache, 10), return_exceptions=True)
    assert {str(result) for result in results} == {"permission denied"}
    assert (link.calls, cache.flights.begun) == ([], 0)


async def test_a_lock_that_is_cleared_without_a_shape_causes_a_call() -> None:
    link = Link()
    link.answer = link.made
    token = link.locks.claim(KEY)
    waiting = ask(ShapeCache(link), 5)
    await turns()
    link.locks.clear(KEY, token)
    await asyncio.gather(*waiting)
    assert len(link.calls) == 1


async def test_a_shape_that_is_never_ready_is_refused() -> None:
    link = Link()

    async def nothing(call: Call) -> Reply:
        return "h"

    link.answer = nothing
    with pytest.raises(NotNow, match=RETRY_TEXT):
        await ShapeCache(link).get_or_create_shape_handle(SHAPE)
    assert len(link.calls) == 2


async def test_the_call_is_repeated_after_the_owner_reconnects() -> None:
    link = Link()
    link.answer = link.away
    cache = ShapeCache(link)
    waiting = ask(cache, 5)
    await turns()
    link.answer = link.made
    link.back.set()
    await asyncio.gather(*waiting)
    assert (len(link.calls), cache.counts.owner_losses) == (2, 1)


@pytest.mark.parametrize("has_notices", [True, False])
async def test_a_new_owner_ends_polling(has_notices: bool) -> None:
    link = Link(has_notices=has_notices)
    link.answer = link.made
    link.locks.claim(KEY)
    waiting = ask(ShapeCache(link))
    await turns()
    link.tables.epoch = link.tables.required[EPOCH] = 2
    link.tables.creation_locks.remove(KEY)
    assert (await waiting[0])[0] == "h"


async def test_the_error_at_the_deadline_says_what_was_waited_for() -> None:
    link = Link()
    cache = ShapeCache(link)
    with pytest.raises(NotNow, match=RETRY_TEXT):
        await cache.get_or_create_shape_handle(SHAPE, 0.001)
    link.locks.begin_table_wait(KEY, link.locks.claim(KEY))
    with pytest.raises(NotNow, match=LOCK_TEXT):
        await cache.get_or_create_shape_handle(SHAPE, 0.001)
    assert cache.counts.late == 2


@pytest.mark.parametrize("has_notices", [True, False])
async def test_a_snapshot_under_way_is_read_without_notices(has_notices: bool) -> None:
    link = Link(has_notices=has_notices)
    link.make()
    waiting = asyncio.ensure_future(ShapeCache(link).tail_changed("h"))
    await turns()
    link.tables.tails.put("h", Tail(snapshot_chunks=1))
    async with asyncio.timeout(10):
        await waiting


@pytest.mark.parametrize("has_notices", [True, False])
async def test_a_removal_is_seen_without_notices(has_notices: bool) -> None:
    link = Link(has_notices=has_notices)
    link.make()
    waiting = asyncio.ensure_future(ShapeCache(link).removed("h"))
    await turns()
    link.tables.shapes.remove("h")
    async with asyncio.timeout(10):
        await waiting


# --- definitions

RAW = RawShape("public", "items")


async def test_a_definition_is_looked_up_once_for_all() -> None:
    link = Link()
    cache = ShapeCache(link)
    found: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def resolve(call: Call) -> Reply:
        return await found

    link.answer = resolve
    waiting = [asyncio.create_task(cache.resolve(RAW)) for _ in range(100)]
    await turns()
    found.set_result(SHAPE)
    assert await asyncio.gather(*waiting) == [SHAPE] * 100
    assert link.calls == [ResolveShape(RAW)]


async def test_a_look_up_waits_for_the_owner_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = Link()
    link.answer = link.away
    cache = ShapeCache(link)
    waiting = asyncio.create_task(cache.resolve(RAW))
    await turns()

    async def resolve(call: Call) -> Reply:
        return SHAPE

    link.answer = resolve
    link.back.set()
    assert await waiting == SHAPE
    link.back.clear()
    link.answer = link.away
    monkeypatch.setattr(definitions, "READY_TIMEOUT_S", 0.001)
    with pytest.raises(OwnerUnavailable):
        await cache.resolve(RawShape("public", "others"))


async def test_a_look_up_without_waiters_is_cancelled() -> None:
    link = Link()
    cache = ShapeCache(link)
    waiting = [asyncio.create_task(cache.resolve(RAW)) for _ in range(3)]
    await turns()
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    await turns()
    assert cache.definitions.flights.under_way == 0


async def test_a_look_up_that_times_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "RESOLVE_TIMEOUT_S", 0.001)
    with pytest.raises(NotNow, match="Cannot connect to the database"):
        await ShapeCache(Link()).resolve(RAW)


async def late(_: Call) -> Reply:
    raise OwnerTimeout("the owner does not answer")


LATE: list[tuple[Callable[[ShapeCache], Awaitable[Any]], type[PgShapesError], str]] = [
    (lambda cache: cache.delete("h"), NotNow, "is being removed"),
    (lambda cache: cache.resolve(RAW), NotNow, "Cannot connect to the database"),
    (lambda cache: cache.get_or_create_shape_handle(SHAPE), NotNow, RETRY_TEXT),
    (lambda cache: cache.is_in_use("g"), OwnerUnavailable, "the owner does not answer"),
]


@pytest.mark.parametrize(("ask_late", "error", "text"), LATE)
async def test_an_owner_that_does_not_answer_in_time_is_not_a_defect(
    ask_late: Callable[[ShapeCache], Awaitable[Any]], error: type[PgShapesError], text: str
) -> None:
    link = Link()
    link.answer = late
    link.tables.shapes.put("g", ShapeRow(b"items", (16384,), ShapeState.LIVE))
    with pytest.raises(error, match=text):
        await ask_late(ShapeCache(link))
    assert len(link.calls) == 1, "what has taken long is not repeated"


async def test_a_deletion_waits_as_long_as_a_removal() -> None:
    link = InProcessLink(Tables(), lambda _, __: asyncio.Event().wait())
    cache = ShapeCache(link)
    cache.removal_timeout_s = 0.01
    with pytest.raises(NotNow, match="is being removed"):
        await cache.delete("h")


async def test_a_removal_that_cannot_be_made_durable_holds_no_request_for_ever() -> None:
    """A dead disk: the shape is retired and stays."""
    link = Link()
    link.tables.shapes.put("h", ShapeRow(b"items", (16384,), ShapeState.RETIRING))
    cache = ShapeCache(link)
    cache.removal_timeout_s = 0.01
    with pytest.raises(NotNow, match="is being removed"):
        await cache.removed("h")
