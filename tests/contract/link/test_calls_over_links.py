"""Calls to the owner over a link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.seams.links import Pair, turns

from pgshapes.errors import (
    CreationFailed,
    Overloaded,
    OwnerTimeout,
    OwnerUnavailable,
    PgShapesError,
    RequestError,
    SchemaChanged,
    SourceError,
)
from pgshapes.model.shape import RawShape, RelationVersion, ResolvedShape, ShapeDefinition
from pgshapes.tables.calls import Call, Reply, ResolveShape
from pgshapes.tables.mailbox import CallContext, Outcome

RAW = RawShape("public", "items", "a = $1", (("1", "x"),), ("id",))
RESOLVED = ResolvedShape(
    ShapeDefinition(
        (16384, 16390), "public", "items", ("id",), ("a", "id"), "a = 'x'", False, "full", "full"
    ),
    b"\x00\xff",
    (RelationVersion(16384, "public", "items", 3), RelationVersion(16390, "s", "members", -5)),
    b'{"id":{"type":"int4"}}',
)

LOOP_CLOCK_STEP_S = 0.002
"""uvloop counts in milliseconds: its timers may be early by one."""


@pytest.mark.parametrize("reply", [RESOLVED, "handle", True, False, None])
async def test_a_reply_arrives_as_it_was_given(pair: Pair, reply: Reply) -> None:
    async def answer(context: CallContext) -> Reply:
        return reply

    pair.script.acts["h"] = answer
    got = await pair.delete("h")
    assert got == reply
    assert type(got) is type(reply)


async def test_a_call_arrives_as_it_was_made(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[Call] = []
    pair.mailbox.tap = received.append

    @pair.script.on("")
    async def never(context: CallContext) -> Reply:
        return None

    with pytest.raises(PgShapesError):
        async with expecting_complaint():
            await pair.link.call(ResolveShape(RAW), timeout_s=10)
    assert received == [ResolveShape(RAW)]


ERRORS = [
    RequestError("Bad", status=404, errors={"where": ["is odd", "is long"], "params": {"1": ["x"]}}),
    RequestError.field("table", "is unknown"),
    CreationFailed("no right to read", retry_after_s=3, known=True),
    Overloaded("too many", retry_after_s=9, known=True),
    SchemaChanged("moved", oid=7),
    SourceError("gone", sqlstate="42P01", action="invalidate"),
    OwnerUnavailable("replication is away"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_arrives_as_the_class_that_was_raised(pair: Pair, error: PgShapesError) -> None:
    @pair.script.on("h")
    async def refuse(context: CallContext) -> Reply:
        raise error

    with pytest.raises(PgShapesError) as caught:
        await pair.delete("h")
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)
    assert pair.mailbox.outcomes[Outcome.REFUSED] == 1


async def test_an_unexpected_error_reaches_the_loop_and_the_caller(pair: Pair) -> None:
    @pair.script.on("h")
    async def break_down(context: CallContext) -> Reply:
        raise ZeroDivisionError

    async with expecting_complaint():
        with pytest.raises(PgShapesError, match="ZeroDivisionError"):
            await pair.delete("h")
    assert pair.mailbox.outcomes[Outcome.BROKEN] == 1


async def test_an_error_before_the_first_await_reaches_the_caller(pair: Pair) -> None:
    def refuse(context: CallContext) -> asyncio.Future[Reply]:
        raise CreationFailed("at once")

    pair.script.acts["h"] = refuse
    with pytest.raises(CreationFailed, match="at once"):
        await pair.delete("h")


async def test_a_reply_comes_after_everything_that_was_written_before_it(pair: Pair) -> None:
    @pair.script.on("h")
    async def write(context: CallContext) -> Reply:
        pair.tables.handles.put(b"c", "h9")
        return "h9"

    assert await pair.delete("h") == "h9"
    assert pair.link.tables.handles.get(b"c") == "h9"


async def test_the_first_step_of_a_call_is_made_when_it_is_received(pair: Pair) -> None:
    order: list[str] = []

    def act(name: str) -> None:
        async def rest() -> Reply:
            order.append(f"{name} continues")
            return None

        def claim(context: CallContext) -> asyncio.Future[Reply]:
            order.append(f"{name} claims")
            return asyncio.ensure_future(rest())

        pair.script.acts[name] = claim

    act("a")
    act("b")
    await asyncio.gather(pair.delete("a"), pair.delete("b"))
    assert order[0] == "a claims"
    assert sorted(order) == ["a claims", "a continues", "b claims", "b continues"]


async def test_calls_do_not_wait_for_each_other(pair: Pair) -> None:
    gate = asyncio.Event()

    @pair.script.on("slow")
    async def slow(context: CallContext) -> Reply:
        await gate.wait()
        return "slow"

    @pair.script.on("quick")
    async def quick(context: CallContext) -> Reply:
        return "quick"

    waiting = asyncio.create_task(pair.delete("slow"))
    await turns()
    assert await pair.delete("quick") == "quick"
    assert (pair.mailbox.depth, pair.mailbox.high_water) == (1, 2)
    gate.set()
    assert await waiting == "slow"
    assert (pair.mailbox.depth, pair.mailbox.high_water) == (0, 2)
    assert pair.mailbox.calls == {"delete_shape": 2}
    assert pair.mailbox.outcomes == {Outcome.ANSWERED: 2}


async def test_a_caller_that_disconnects_cancels_its_call(pair: Pair) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    @pair.script.on("h")
    async def wait_for_cancel(context: CallContext) -> Reply:
        began.set()
        assert not context.is_cancelled and context.remaining_s > 0
        await context.cancelled.wait()
        ended.set()
        return "not sent"

    calling = asyncio.create_task(pair.delete("h"))
    async with asyncio.timeout(10):
        await began.wait()
        calling.cancel()
        await ended.wait()
    await asyncio.gather(calling, return_exceptions=True)
    await pair.link.barrier(timeout_s=10)
    assert calling.cancelled()
    assert pair.script.contexts[0].is_cancelled
    assert pair.mailbox.outcomes == {Outcome.ABANDONED: 1}
    assert pair.mailbox.depth == 0


async def test_a_deadline_ends_the_call_at_both_ends(pair: Pair) -> None:
    ended = asyncio.Event()

    @pair.script.on("h")
    async def wait_for_cancel(context: CallContext) -> Reply:
        await context.cancelled.wait()
        assert context.remaining_s <= LOOP_CLOCK_STEP_S
        ended.set()
        return None

    with pytest.raises(OwnerTimeout):
        await pair.delete("h", timeout_s=0.01)
    async with asyncio.timeout(10):
        await ended.wait()


async def test_a_call_whose_deadline_has_passed_is_not_begun(pair: Pair) -> None:
    with pytest.raises(OwnerTimeout):
        await pair.delete("h", timeout_s=0)
    await pair.link.barrier(timeout_s=10)
    assert pair.script.received == []


async def test_a_link_knows_that_it_is_connected(pair: Pair) -> None:
    assert pair.link.is_connected
    await pair.link.connected()


@asynccontextmanager
async def expecting_complaint() -> AsyncIterator[None]:
    """Check that the loop's exception handler is called exactly once inside."""
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        yield
    finally:
        loop.set_exception_handler(None)
    assert len(complaints) == 1
