"""Waiting for readiness: how many tasks poll, and how many waiters are released per turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgshapes.errors import NotReady
from pgshapes.gates.conditions import Condition, Conditions, Level, StatusTable, level_of
from pgshapes.gates.readiness import CONGESTED_FROM, RELEASED_PER_TURN, StatusMonitor
from pgshapes.tables.rows import ConditionRow
from pgshapes.tables.table import TableReplica
from pgshapes.tables.tables import Tables


class Service:
    """The conditions of an owner, and a monitor of them."""

    def __init__(self, *, has_notices: bool = True, **options: Any) -> None:
        self.tables = Tables(has_notices=has_notices)
        self.conditions = Conditions(self.tables.status)
        self.monitor = StatusMonitor(self.tables.status, **options)

    def meet_all(self) -> None:
        with self.tables.transaction():
            for condition in Condition:
                self.conditions.meet(condition)


async def start_waiting(monitor: StatusMonitor, count: int, level: Level) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(monitor.wait_until(level, 60)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_reached_level_is_not_waited_for() -> None:
    service = Service()
    service.meet_all()
    await service.monitor.wait_until(Level.ACTIVE, 0)
    await service.monitor.wait_until(Level.READ_ONLY, 0)
    assert service.monitor.parked == 0


async def test_a_timeout_names_the_first_unmet_condition() -> None:
    service = Service()
    service.conditions.meet(Condition.LOCK_ACQUIRED)
    service.conditions.unmeet(Condition.REPLICATION_CLIENT_READY, "no slot")
    with pytest.raises(NotReady) as caught:
        await service.monitor.wait_until(Level.READ_ONLY, 0.001)
    assert caught.value.message == "Timeout waiting for replication client to be ready: no slot"
    assert caught.value.retry_after_s == 5
    assert service.monitor.parked == 0


@pytest.mark.parametrize("has_notices", [True, False])
async def test_each_level_is_waited_for_on_its_own(has_notices: bool) -> None:
    service = Service(has_notices=has_notices)
    readers = await start_waiting(service.monitor, 10, Level.READ_ONLY)
    creators = await start_waiting(service.monitor, 10, Level.ACTIVE)
    assert service.monitor.parked == 20
    service.conditions.meet(Condition.SHAPE_METADATA_READY)
    async with asyncio.timeout(10):
        await asyncio.gather(*readers)
    assert not any(task.done() for task in creators)
    service.meet_all()
    async with asyncio.timeout(10):
        await asyncio.gather(*creators)
    assert service.monitor.parked == 0


async def test_parked_waiters_are_released_a_few_per_turn() -> None:
    service = Service()
    tasks = await start_waiting(service.monitor, 500, Level.ACTIVE)
    service.meet_all()
    most, done = 0, 0
    while done < len(tasks):
        await asyncio.sleep(0)
        now = sum(task.done() for task in tasks)
        most, done = max(most, now - done), now
    assert 0 < most <= RELEASED_PER_TURN


async def test_a_congested_monitor_lets_new_waiters_poll_until_none_is_parked() -> None:
    gate = asyncio.Event()
    polled: list[float] = []

    async def poll(check: Callable[[], bool], timeout_s: float) -> bool:
        polled.append(timeout_s)
        await gate.wait()
        return check()

    service = Service(poll=poll)
    monitor = service.monitor
    parked = await start_waiting(monitor, CONGESTED_FROM - 1, Level.ACTIVE)
    assert not monitor.is_congested
    parked += await start_waiting(monitor, 1, Level.ACTIVE)
    assert monitor.is_congested
    pollers = await start_waiting(monitor, 7, Level.ACTIVE)
    assert (monitor.parked, monitor.polling, polled) == (CONGESTED_FROM, 7, [60] * 7)
    for task in parked[:-1]:
        task.cancel()
    await asyncio.gather(*parked[:-1], return_exceptions=True)
    assert monitor.is_congested and monitor.parked == 1
    service.meet_all()
    await parked[-1]
    assert not monitor.is_congested
    gate.set()
    await asyncio.gather(*pollers)
    assert monitor.polling == 0


async def test_cancelled_waiters_leave_no_state() -> None:
    service = Service()
    tasks = await start_waiting(service.monitor, 20, Level.ACTIVE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert service.monitor.parked == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_one_poller_serves_all_parked_waiters() -> None:
    service = Service(has_notices=False)
    tasks = await start_waiting(service.monitor, 200, Level.ACTIVE)
    assert len(asyncio.all_tasks()) == len(tasks) + 2
    service.meet_all()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)


Write = tuple[Condition, bool | None]
"""A condition, and whether it is set to met; None removes its row."""
writes = st.tuples(st.sampled_from(Condition), st.sampled_from([True, True, False, None]))
ALL_MET: list[Write] = [(condition, True) for condition in Condition]


def rows_of(written: list[Write]) -> list[tuple[str, ConditionRow | None]]:
    return [(condition.value, None if met is None else ConditionRow(met)) for condition, met in written]


def check_level(monitor: StatusMonitor, status: StatusTable, is_following: bool) -> None:
    assert monitor.level() is level_of(status, is_following=is_following)


@given(st.booleans(), st.lists(st.tuples(st.lists(writes, max_size=3), st.booleans())))
@example(True, [(ALL_MET, True), ([(Condition.LOCK_ACQUIRED, None)], True)])
def test_the_level_follows_the_rows(has_notices: bool, steps: list[tuple[list[Write], bool]]) -> None:
    tables = Tables(has_notices=has_notices)
    following = [True]
    monitor = StatusMonitor(tables.status, is_following=lambda: following[0])
    with tables.transaction():
        for written, following[0] in steps:
            for name, row in rows_of(written):
                if row is None:
                    tables.status.remove(name)
                else:
                    tables.status.put(name, row)
            check_level(monitor, tables.status, following[0])


@given(st.booleans(), st.lists(st.tuples(st.booleans(), st.lists(writes, max_size=9), st.booleans())))
@example(True, [(False, ALL_MET, True), (True, [], True), (True, ALL_MET, True)])
def test_the_level_follows_a_replica(has_notices: bool, steps: list[tuple[bool, list[Write], bool]]) -> None:
    replica = TableReplica[str, ConditionRow](has_notices=has_notices)
    following = [True]
    monitor = StatusMonitor(replica, is_following=lambda: following[0])
    for is_whole, written, following[0] in steps:
        if is_whole:
            replica.replace({name: row for name, row in rows_of(written) if row is not None})
        else:
            replica.apply(rows_of(written))
        check_level(monitor, replica, following[0])
        replica.announce_all()
        check_level(monitor, replica, following[0])


async def test_the_level_is_computed_once_for_each_version_of_the_table() -> None:
    service = Service()
    service.meet_all()
    asked: list[str] = []
    get = service.tables.status.get
    service.tables.status.get = lambda key: asked.append(key) or get(key)  # type: ignore[func-returns-value]
    for _ in range(3):
        assert service.monitor.level() is Level.ACTIVE
    assert len(asked) == len(set(asked)) > 1


async def test_the_service_is_read_only_without_an_owner() -> None:
    following = [True]
    service = Service(is_following=lambda: following[0])
    service.meet_all()
    following[0] = False
    assert service.monitor.level() is Level.READ_ONLY
    with pytest.raises(NotReady, match="stack restart"):
        await service.monitor.wait_until(Level.ACTIVE, 0.001)


async def test_polling_waiters_are_released_a_few_per_turn() -> None:
    gate = asyncio.Event()

    async def poll(check: Callable[[], bool], timeout_s: float) -> bool:
        await gate.wait()
        return check()

    service = Service(poll=poll)
    await start_waiting(service.monitor, CONGESTED_FROM, Level.ACTIVE)
    polling = await start_waiting(service.monitor, 500, Level.ACTIVE)
    assert service.monitor.polling == 500
    service.meet_all()
    gate.set()
    most, done = 0, 0
    while done < len(polling):
        await asyncio.sleep(0)
        now = sum(task.done() for task in polling)
        most, done = max(most, now - done), now
    assert 0 < most <= RELEASED_PER_TURN
    assert service.monitor.polling == 0
