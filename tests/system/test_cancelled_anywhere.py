"""Whatever task is cancelled, wherever it waits: nothing stays held, and the shape can be created.

Each task that begins in a scenario is cancelled at each place at which it waits, before its first step
included; the places are found by watching a run without a cancellation. Then everything that can be held is
counted: connections and their transactions, places, slots, permits, locks, files, tasks, waits.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest
from tests.support.cancellation.everywhere import cancel_everywhere
from tests.support.cancellation.points import How, Point, Watch
from tests.support.cancellation.scenarios import SCENARIOS
from tests.support.cancellation.stage import open_snapshot_files, open_stage
from tests.support.clients.pending import until_query

TASKS = {"ShapeApp.__call__", "_result_of", "ShapeResolver.resolve", "Creations._run", "SnapshotWriting.run"}


@pytest.mark.slow
async def test_nothing_is_held_after_a_cancellation(database_url: str, tmp_path: Path) -> None:
    done = await cancel_everywhere(database_url, tmp_path, SCENARIOS)
    assert TASKS - {point.task for point in done.points} == set()
    assert {point.task for point in done.points if point.how is How.BEFORE_FIRST_STEP} >= TASKS
    assert len(done.points) > 100
    assert len(done.missed) < len(done.points) / 10, sorted(map(str, done.missed))
    assert all(len(tasks & TASKS) >= 4 for tasks in done.cancelled.values()), done.cancelled


@pytest.mark.slow
async def test_nothing_stays_open_when_a_task_of_the_owner_is_cancelled(
    database_url: str, tmp_path: Path, sql: psycopg.Connection
) -> None:
    """Each of the tasks that run as long as the owner does, or as its session with the database."""
    async with open_stage(database_url, tmp_path) as stage:
        functions = sorted(stage.running_tasks())
    expected = {"Replicator.run", "ReplicationStream.run", "keep_running: acknowledging changes"}
    assert expected <= set(functions)
    for function in functions:
        async with open_stage(database_url, tmp_path) as stage:
            task = stage.running_tasks()[function]
            assert task.cancel(), function
            await asyncio.sleep(0)
        assert task.done(), function
        assert open_snapshot_files(tmp_path) == []
        await asyncio.to_thread(until_query, sql, _NO_BACKENDS)


@pytest.mark.slow
async def test_nothing_stays_open_when_the_end_is_cancelled_anywhere(
    database_url: str, tmp_path: Path, sql: psycopg.Connection
) -> None:
    """The end of the owner is cancelled at each of its waits; the next owner starts on the same storage."""
    watch = Watch()
    watch.install(asyncio.get_running_loop())

    async def end(target: Point | None) -> bool:
        async with open_stage(database_url, tmp_path) as stage:
            watch.begin(target, also=stage.running_tasks()["Replicator.run"])
            stage.replicator.stop()
        watch.end()
        await asyncio.to_thread(until_query, sql, _NO_BACKENDS)
        return watch.cancelled is not None

    assert not await end(None)
    points = [point for point in watch.points if point.task == "Replicator.run"]
    assert len(points) > 4
    cancelled = [await end(point) for point in points]
    assert sum(cancelled) > 0.9 * len(points), dict(zip(points, cancelled, strict=True))


_NO_BACKENDS = """SELECT WHERE NOT EXISTS (
  SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgshapes%')"""
