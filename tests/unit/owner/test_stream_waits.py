"""Changes are processed when no wait is open any more, and never those that follow an error."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine
from typing import Any

import pytest
from tests.support.seams.routing_samples import (
    ID,
    TITLE,
    announcement,
    column,
    inserted,
    live,
    new_router,
    relation,
    transaction,
)

from pgshapes.errors import DiskFull
from pgshapes.model.change import Fragment
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.change_path import ChangePath
from pgshapes.owner.stream_waits import StreamWaits
from pgshapes.postgres.pgoutput_messages import RelationMessage
from pgshapes.routing.assembler import RelationAnnounced
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.routed import Routed


class Stream:
    """A stream that is paused or not."""

    heard_at = 0.0
    is_doubtful = False
    is_paused = False

    def pause(self) -> None:
        """As the stream does."""
        self.is_paused = True

    def resume(self) -> None:
        """As the stream does."""
        self.is_paused = False


def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Waits:
    """Waits with a stream, and what they have done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.stream = Stream()
        self.waits = StreamWaits(spawn, lambda: self.done.append("went on"), self.done.append)
        self.waits.connected(self.stream)

    def begin(self, *, is_for_stream: bool, reason: str = "") -> asyncio.Future[None]:
        """A wait until the future is done."""
        until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waits.begin(self._until(until), reason, is_for_stream=is_for_stream)
        return until

    @staticmethod
    async def _until(future: asyncio.Future[None]) -> None:
        await future


@pytest.mark.parametrize("first", [0, 1])
async def test_changes_are_processed_when_the_last_wait_has_ended(first: int) -> None:
    one = Waits()
    both = [one.begin(is_for_stream=False, reason="disk"), one.begin(is_for_stream=True, reason="catalogs")]
    await settle()
    both[first].set_result(None)
    await settle()
    assert (one.done, one.stream.is_paused) == ([], True)
    assert one.waits.reason == ("catalogs", "disk")[first]
    both[1 - first].set_result(None)
    await settle()
    assert (one.done, one.stream.is_paused, one.waits.open) == (["went on"], False, [])


async def test_a_new_stream_does_not_wait_for_what_the_previous_one_waits_for() -> None:
    one = Waits()
    until = one.begin(is_for_stream=True)
    await settle()
    later = Stream()
    one.waits.connected(later)
    await settle()
    assert until.cancelled(), "the work ends, too"
    assert (one.done, later.is_paused, one.waits.open) == ([], False, [])


async def test_a_new_stream_waits_for_room_on_the_disk() -> None:
    one = Waits()
    until = one.begin(is_for_stream=False)
    await settle()
    later = Stream()
    one.waits.connected(later)
    assert later.is_paused
    until.set_result(None)
    await settle()
    assert (one.done, later.is_paused) == (["went on"], False)


@pytest.mark.parametrize("is_for_stream", [False, True])
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_after_a_failed_wait_nothing_is_processed_before_the_next_stream(
    is_for_stream: bool, is_cancelled: bool
) -> None:
    one = Waits()
    failing, other = one.begin(is_for_stream=is_for_stream), one.begin(is_for_stream=False)
    await settle()
    if is_cancelled:
        failing.cancel()
    else:
        failing.set_exception(ValueError("on purpose"))
    await settle()
    other.set_result(None)
    await settle()
    assert one.stream.is_paused and one.waits.reason == "changes could not be processed"
    assert len(one.done) == 1 and one.done[0].startswith("changes could not be processed: ")
    later = Stream()
    one.waits.connected(later)
    assert not later.is_paused and not one.waits.open


class Publisher:
    """A publisher that may be full."""

    def __init__(self) -> None:
        self.queue: deque[Routed] = deque()
        self.is_full = False
        self.retried = asyncio.Event()

    def publish_queued(self, *, seen_lsn: int | None = None) -> None:
        """As the publisher does."""
        if self.is_full and self.queue:
            raise DiskFull("no space left on device")
        self.queue.clear()

    def retry(self) -> None:
        """As the publisher does."""
        self.publish_queued()
        self.retried.set()


class Catalogs:
    """The inspector and the watch, whose checks take until `gate` is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    async def visibility(self) -> SnapshotVisibility:
        """As the inspector does."""
        return SnapshotVisibility(1000, 1000, (), 0)

    async def check(self, _: Collection[int]) -> None:
        """As the watch does."""
        await self.gate.wait()


class Path:
    """A change path with two shapes, and in which order it binds and routes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pgshapes.owner.change_path._DISK_RETRY_S", 0.0)
        self.order: list[str] = []
        self.publisher, self.catalogs = Publisher(), Catalogs()
        self.boundary = FlushBoundary(0)
        self.reconnects: list[str] = []
        publisher: Any = self.publisher
        catalogs: Any = self.catalogs
        self.router = new_router()
        live(self.router, "h", columns=["id", "title"])
        live(self.router, "g", where="grade > 1")
        self.path = ChangePath(
            self.router, publisher, self.boundary, catalogs, catalogs,
            spawn=spawn, on_identity_lost=lambda _: None, on_progress=lambda: None,
            reconnect=self.reconnects.append,
        )  # fmt: skip
        bind, route = self.router.announce, self.router.route

        def announce(message: RelationMessage, at: tuple[int, int]) -> list[str]:
            self.order.append(message.columns[-1].name)
            return bind(message, at)

        def route_one(fragment: Fragment) -> Routed:
            self.order.append(f"route {fragment.commit_lsn}")
            return route(fragment)

        monkeypatch.setattr(self.router, "announce", announce)
        monkeypatch.setattr(self.router, "route", route_one)
        self.path._waits.connected(Stream())

    def announce(self, name: str, lsn: int) -> RelationAnnounced:
        """An announcement of the table with a column of another name."""
        return RelationAnnounced(announcement(relation(ID, TITLE, column(name))), lsn // 10, lsn)

    def work(self, *events: Any) -> None:
        """Receive these events."""
        self.path._backlog.extend(events)
        self.path._work()


async def test_a_change_is_not_routed_before_its_announcement_while_the_disk_was_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Path(monkeypatch)
    one.publisher.is_full = True
    one.work(one.announce("first", 100))
    while one.publisher.queue == deque():
        await asyncio.sleep(0)
    await settle()
    assert one.order == ["first"] and one.path.obstacle() is not None, "the shape of `grade` has ended"
    one.work(one.announce("second", 200), transaction(200, inserted(0, "1", "t", "9")))
    one.catalogs.gate.clear()
    await settle()
    assert one.order == ["first"], "the end of the comparison is not the end of the wait for room"
    one.publisher.is_full = False
    await one.publisher.retried.wait()
    await settle()
    assert one.order == ["first"], "the second announcement is being compared"
    one.catalogs.gate.set()
    await settle()
    assert one.order == ["first", "second", "route 200"] and not one.path._open_waits


async def test_nothing_that_follows_an_error_is_processed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be acknowledged, and what has failed with it."""
    one = Path(monkeypatch)
    with monkeypatch.context() as failing:
        failing.setattr(one.router, "route", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.work(transaction(100, inserted(0, "1", "t", "9")))
    one.work(transaction(200, inserted(0, "2", "t", "9")))
    assert one.order == [] and one.path.obstacle() == "changes could not be processed"
    one.path.on_keepalive(1000)
    assert one.boundary.processed == 0
