"""Removal of a shape: its WAL is not acknowledged, and no waiter is notified, before it is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

import pytest

from pgshapes.errors import StorageError
from pgshapes.model.shape_state import ShapeState
from pgshapes.owner import removal as removal_module
from pgshapes.owner.catalogue import Statement
from pgshapes.owner.removal import ShapeCleaner
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.flush_boundary import FlushBoundary
from pgshapes.routing.router import Router
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables


class Disk:
    """The store and the catalogue; each operation completes when the test lets it."""

    def __init__(self) -> None:
        self.removals: list[asyncio.Future[None]] = []
        self.commits: list[asyncio.Future[None]] = []

    async def remove(self, handles: Collection[str]) -> None:
        """As the store does."""
        self.removals.append(asyncio.get_running_loop().create_future())
        await self.removals[-1]

    def put(self, *statements: Statement) -> asyncio.Future[None]:
        """As the write buffer does."""
        self.commits.append(asyncio.get_running_loop().create_future())
        return self.commits[-1]


class Scene:
    """A shape at WAL position 100, and the cleaner that removes it."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.disk = Disk()
        self.boundary = FlushBoundary(100)
        self.tables.shapes.put("1", ShapeRow(b"c", (7,), ShapeState.LIVE))
        self.tables.handles.put(b"c", "1")
        self.cleaner = ShapeCleaner(
            self.tables,
            ShapeStatus(self.tables, self.disk),
            Router(DeliveredTransactions()),
            self.disk,  # type: ignore[arg-type]  # not the store
            self.boundary,
            spawn=self.spawn,
            after_removal=lambda _: None,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """As the owner does."""
        return asyncio.get_running_loop().create_task(work)


async def settle() -> None:
    """Let all ready tasks run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_wal_of_a_removal_waits_until_it_is_durable() -> None:
    scene = Scene()
    removal = scene.cleaner.end(["1"], "truncated")
    assert removal is not None
    scene.boundary.advance(200)
    await settle()
    assert scene.boundary.acknowledgeable() == 100
    scene.disk.removals[0].set_result(None)
    await settle()
    assert scene.boundary.acknowledgeable() == 100
    scene.disk.commits[0].set_result(None)
    await removal
    assert scene.boundary.acknowledgeable() == 200


async def test_no_row_is_removed_before_the_removal_is_durable() -> None:
    scene = Scene()
    removal = scene.cleaner.end(["1"], "truncated")
    assert removal is not None
    assert b"c" not in scene.tables.handles
    for waiting in (scene.disk.removals, scene.disk.commits):
        await settle()
        row = scene.tables.shapes.get("1")
        assert row is not None and row.state is ShapeState.RETIRING
        waiting[0].set_result(None)
    await removal
    assert "1" not in scene.tables.shapes


async def test_a_removal_that_fails_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal_module, "_RETRY_S", 0)
    scene = Scene()
    removal = scene.cleaner.end(["1"], "truncated")
    assert removal is not None
    scene.boundary.advance(200)
    await settle()
    scene.disk.removals[0].set_exception(StorageError("the disk is gone"))
    await settle()
    assert scene.boundary.acknowledgeable() == 100
    scene.disk.removals[1].set_result(None)
    await settle()
    scene.disk.commits[0].set_result(None)
    await removal
    assert scene.boundary.acknowledgeable() == 200


async def test_a_shape_is_ended_once() -> None:
    scene = Scene()
    assert scene.cleaner.end(["1", "2"], "truncated") is not None
    assert scene.cleaner.end(["1"], "deleted") is None
    await settle()
    assert len(scene.disk.removals) == 1
    scene.disk.removals[0].set_result(None)
    await settle()
    scene.disk.commits[0].set_result(None)


@pytest.mark.parametrize("steps", [0, 1, 5])
async def test_a_removal_whose_task_is_cancelled_is_completed(steps: int) -> None:
    scene = Scene()
    known = asyncio.all_tasks()
    removal = scene.cleaner.end(["1"], "truncated")
    assert removal is not None
    scene.boundary.advance(200)
    (removing,) = asyncio.all_tasks() - known
    for _ in range(steps):
        await asyncio.sleep(0)
    removing.cancel()
    await settle()
    assert scene.boundary.acknowledgeable() == 100
    scene.disk.removals[-1].set_result(None)
    await settle()
    scene.disk.commits[-1].set_result(None)
    await removal
    assert "1" not in scene.tables.shapes
    assert scene.boundary.acknowledgeable() == 200


async def test_nothing_is_removed_after_the_owner_has_closed() -> None:
    scene = Scene()
    scene.cleaner.close()
    assert scene.cleaner.end(["1"], "truncated") is None
    assert scene.tables.shapes["1"].state is ShapeState.LIVE


@pytest.mark.parametrize(
    "error",
    [StorageError("the disk fails"), OSError(5, "I/O error"), OSError(24, "no descriptors"), RuntimeError()],
    ids=repr,
)
async def test_a_removal_survives_any_error_and_says_so(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal_module, "_RETRY_S", 0)
    scene = Scene()
    removal = scene.cleaner.end(["1"], "truncated")
    assert removal is not None
    for number in range(3):
        await settle()
        assert len(scene.disk.removals) == number + 1
        scene.disk.removals[number].set_exception(error)
    await settle()
    assert scene.cleaner.is_failing
    scene.disk.removals[3].set_result(None)
    await settle()
    scene.disk.commits[0].set_result(None)
    async with asyncio.timeout(30):
        await removal
    assert not scene.cleaner.is_failing
    assert "1" not in scene.tables.shapes
