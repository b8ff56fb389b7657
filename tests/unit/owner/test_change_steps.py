"""The change path gives other work its turn while it routes a transaction of expensive rows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.support.seams.expensive_clauses import ExpensiveClauses
from tests.support.seams.routing_samples import appended_entries, inserted, live, transaction

from pgshapes.errors import DiskFull
from pgshapes.owner.change_path import ChangePath
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.routed import Routed

ROWS, CLAUSES = 40, 30
LARGE = "a" * 60_000


class Published:
    """A publisher that keeps what it is given, and may be full."""

    def __init__(self) -> None:
        self.queue: deque[Routed] = deque()
        self.routed: list[Routed] = []
        self.seen: list[int] = []
        self.fails = 0

    def publish_queued(self, *, seen_lsn: int | None = None) -> None:
        """As the publisher does."""
        if self.fails:
            self.fails -= 1
            raise DiskFull("no space left on device")
        self.retry()
        if seen_lsn is not None:
            self.seen.append(seen_lsn)

    def retry(self) -> None:
        """As the publisher does."""
        while self.queue:
            self.routed.append(self.queue.popleft())


class Scene:
    """A change path whose clauses take 20 ms each, with a stream that counts its pauses."""

    heard_at = 0.0
    is_doubtful = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.expensive = ExpensiveClauses(monkeypatch, lambda _, __: 0.02)
        self.published = Published()
        self.boundary = FlushBoundary(0)
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_paused = False
        self.reconnects: list[str] = []
        unused: Any = None
        given: Any = self.published
        router = self.expensive.router()
        for number in range(CLAUSES):
            live(router, str(number), where=f"grade > {number}")
        self.path = ChangePath(
            router, given, self.boundary, unused, unused,
            spawn=self._spawn, on_identity_lost=unused, on_progress=lambda: None,
            reconnect=self.reconnects.append,
        )  # fmt: skip
        self.path._waits.connected(self)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def pause(self) -> None:
        """As the stream does."""
        self.is_paused = True

    def resume(self) -> None:
        """As the stream does."""
        self.is_paused = False

    async def feed(self, *lsns: int) -> int:
        """Process transactions of expensive rows to their end; returns how often other work had its turn."""
        changes = [inserted(2 * number, str(number), LARGE, "99") for number in range(ROWS)]
        self.path._backlog.extend(transaction(lsn, *changes) for lsn in lsns)
        self.path._work()
        turns = 0
        while self.path._open_waits:
            turns += 1
            assert self.is_paused, "the backlog must not grow"
            self.path.on_keepalive(10_000)
            assert self.boundary.processed < 10_000, "what is not routed must not be acknowledged"
            await asyncio.sleep(0)
        return turns

    def entries(self, handle: str) -> list[tuple[str, str | None, bool]]:
        """What was published for a shape."""
        return [entry for routed in self.published.routed for entry in appended_entries(routed, handle)]


async def test_other_work_has_its_turn_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty rows take 24 s here; something else runs after every two clauses, and the logs are complete."""
    scene = Scene(monkeypatch)
    turns = await scene.feed(100, 200)
    assert scene.expensive.now == pytest.approx(2 * ROWS * CLAUSES * 0.02)
    assert turns >= 2 * ROWS * CLAUSES / 2 - 2
    assert not scene.is_paused and not scene.reconnects
    once = [("insert", str(number), number == ROWS - 1) for number in range(ROWS)]
    for number in range(CLAUSES):
        assert scene.entries(str(number)) == once + once
    assert scene.published.seen == [100, 200]
    assert (scene.path.transactions, scene.path.changes) == (2, 2 * ROWS)
    assert scene.boundary.processed == 208


async def test_a_full_disk_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processing waits for room, and then goes on where it was."""
    monkeypatch.setattr("pgshapes.owner.change_path._DISK_RETRY_S", 0.0)
    scene = Scene(monkeypatch)
    scene.published.fails = 1
    await scene.feed(100)
    assert scene.entries("7") == [("insert", str(number), number == ROWS - 1) for number in range(ROWS)]
    assert scene.boundary.acknowledgeable() == 108
