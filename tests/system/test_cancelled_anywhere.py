"""Whatever task is cancelled, wherever it waits: nothing stays held, and the shape can be created.

Each task that begins in a scenario is cancelled at each place at which it waits, before its first step
included; the places are found by watching a run without a cancellation. Then everything that can be held is
counted: connections and their transactions, places, slots, permits, locks, files, tasks, waits.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest
from tests.support.cancellation.everywhere import cancel_everywhere
from tests.support.cancellation.points import How, Point, Watch
from tests.support.cancellation.scenarios import SCENARIOS
from tests.support.cancellation.stage import open_snapshot_files, open_stage
from tests.support.clients.pending import until

from pgshapes.owner import durability as durability_module

TASKS = {"ShapeApp.__call__", "_result_of", "ShapeResolver.resolve", "Creations._run", "SnapshotWriting.run"}
ENDING = {"Replicator.run", "Replicator._follow"}
OWNER = {*ENDING, "ReplicationStream.run", "keep_running: acknowledging changes"}
"""Tasks that run as long as the owner does, or as its session with the database; the first ones wait for
something while they end.
"""
TRIES = 3
"""Ends for one point, until it is passed: whether a task waits somewhere depends on what was ready before."""
LAST_CYCLE = "durability.py"
"""The file in which the session waits while it makes durable what was received last."""


@pytest.fixture
def no_gc() -> Iterator[None]:
    """A connection that only the garbage collector closes stays open, for all that anybody knows."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
async def test_nothing_is_held_after_a_cancellation(database_url: str, tmp_path: Path) -> None:
    done = await cancel_everywhere(database_url, tmp_path, SCENARIOS)
    assert TASKS - {point.task for point in done.points} == set()
    assert {point.task for point in done.points if point.how is How.BEFORE_FIRST_STEP} >= TASKS
    assert len(done.points) > 100
    assert len(done.missed) < len(done.points) / 10, sorted(map(str, done.missed))
    assert all(len(tasks & TASKS) >= 4 for tasks in done.cancelled.values()), done.cancelled


@pytest.mark.slow
@pytest.mark.usefixtures("no_gc")
async def test_nothing_stays_open_when_a_task_of_the_owner_is_cancelled(
    database_url: str, tmp_path: Path, sql: psycopg.Connection
) -> None:
    """Each of the tasks that run as long as the owner does, or as its session with the database."""
    async with open_stage(database_url, tmp_path) as stage:
        functions = sorted(stage.running_tasks())
    assert set(functions) >= OWNER
    cancelled = set()
    for function in functions:
        async with open_stage(database_url, tmp_path) as stage:
            task = stage.running_tasks().get(function)
            if task is None:
                continue  # it ran by chance, for something that takes a moment
            task.cancel()
            await asyncio.sleep(0)
        assert task.done(), function
        if task.cancelled():
            cancelled.add(function)
        assert open_snapshot_files(tmp_path) == []
        await until_no_backends(sql, function)
    assert cancelled >= OWNER - ENDING, cancelled


@pytest.mark.slow
@pytest.mark.usefixtures("no_gc")
async def test_nothing_stays_open_when_the_end_is_cancelled_anywhere(
    database_url: str, tmp_path: Path, sql: psycopg.Connection
) -> None:
    """Each task of the owner that ends is cancelled at each wait on its way; the next owner starts on the
    same storage. No cycle runs by the clock, so the last one always has something to record: every end waits
    at the same places.
    """
    watch = Watch()
    watch.install(asyncio.get_running_loop())

    async def end(target: Point | None) -> bool:
        async with open_stage(database_url, tmp_path) as stage:
            assert stage.replicator.durability is not None
            stage.replicator.durability.recorded_lsn = 0
            watch.begin(target, also=stage.running_tasks().values())
            stage.replicator.stop()
        watch.end()
        await until_no_backends(sql, target)
        return watch.cancelled is not None

    async def is_cancelled(point: Point) -> bool:
        for _ in range(TRIES):
            if await end(point):
                return True
        return False

    with patch.object(durability_module, "SYNC_INTERVAL_S", 3600.0):
        assert not await end(None)
        points = [point for point in watch.points if point.task in ENDING]
        for task in ENDING:
            assert {point.how for point in points if point.task == task} == {How.WAITING, How.CONTINUING}
        assert any(place.startswith(LAST_CYCLE) for point in points for place in point.place)
        missed = [str(point) for point in points if not await is_cancelled(point)]
    assert missed == []


_BACKENDS = """SELECT application_name, state, query FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE 'pgshapes%'"""


async def until_no_backends(sql: psycopg.Connection, after: object) -> None:
    """Wait until the owner has no session left. Raises AssertionError, with those that it has."""
    left: list[object] = []

    def is_none_left() -> bool:
        left[:] = sql.execute(_BACKENDS).fetchall()
        return not left

    try:
        await asyncio.to_thread(until, is_none_left, f"the end of the sessions, after {after}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {left}") from None
