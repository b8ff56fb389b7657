"""The owner's side: one creation for each claim, also when it fails or its callers disconnect."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.errors import (
    CatalogueError,
    CreationFailed,
    DiskFull,
    NotNow,
    PgShapesError,
    RequestError,
    SchemaChanged,
    SourceError,
)
from pgshapes.model.shape import ResolvedShape
from pgshapes.model.shape_state import ShapeState
from pgshapes.owner import creations
from pgshapes.owner.creations import CreationLocks, Creations, CreationSlot
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.rows import CreationState, ShapeRow
from pgshapes.tables.tables import Tables


class Owner:
    """Creations whose outcome the test sets, by table."""

    def __init__(self, limit: int = 64) -> None:
        self.tables = Tables()
        self.locks = CreationLocks(self.tables)
        self.creations = Creations(self.tables, self.locks, self._create, limit=limit)
        self.made: list[str] = []
        self.gates: dict[str, asyncio.Future[None]] = {}
        self.held_by_writers: dict[str, asyncio.Event] = {}

    def gate(self, table: str) -> asyncio.Future[None]:
        return self.gates.setdefault(table, asyncio.get_running_loop().create_future())

    async def _create(self, shape: ResolvedShape, slot: CreationSlot) -> str:
        table = shape.definition.table
        self.made.append(table)
        handle = f"{table}-{len(self.made)}"
        if table in self.held_by_writers:
            slot.begin_table_wait()
            await self.held_by_writers[table].wait()
            await slot.end_table_wait()
        await self.gate(table)
        with self.tables.transaction():
            self.tables.shapes.put(handle, ShapeRow(shape.comparable, (1,), ShapeState.LIVE))
            self.tables.handles.put(shape.comparable, handle)
        return handle

    def call(self, table: str, oid: int = 1) -> tuple[asyncio.Task[str], CallContext]:
        context = CallContext(time.monotonic() + 60)
        waiting = self.creations.create_or_wait(shape_of(table, oid=oid), context)
        return asyncio.ensure_future(waiting), context

    def lock(self, table: str) -> CreationState | None:
        row = self.tables.creation_locks.get(shape_of(table).comparable)
        return None if row is None else row.state


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_lock_is_set_before_the_call_returns() -> None:
    owner = Owner()
    context = CallContext(time.monotonic() + 60)
    waiting = owner.creations.create_or_wait(shape_of(), context)
    assert owner.lock("items") is CreationState.IN_PROGRESS
    owner.gate("items").set_result(None)
    assert await waiting == "items-1"
    assert owner.lock("items") is None


async def test_calls_that_find_the_lock_set_attach() -> None:
    owner = Owner()
    calls = [owner.call("items")[0] for _ in range(10)]
    await turns()
    owner.gate("items").set_result(None)
    assert set(await asyncio.gather(*calls)) == {"items-1"}
    assert owner.made == ["items"]
    assert owner.creations.counts.attached == 9
    assert await owner.call("items")[0] == "items-1"


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (SourceError("permission denied"), CreationFailed),
        (CreationFailed("too slow"), CreationFailed),
        (ZeroDivisionError("a defect"), CreationFailed),
        (DiskFull("passes"), CreationFailed),
        (CatalogueError("does not pass"), CatalogueError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_a_failure_answers_every_call_for_a_second(
    raised: Exception, seen: type[PgShapesError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creations, "FAILURE_LASTS_S", 0.05)
    owner = Owner()
    calls = [owner.call("items")[0] for _ in range(3)]
    await turns()
    owner.gate("items").set_exception(raised)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {seen}
    assert owner.lock("items") is CreationState.FAILED
    later = await asyncio.gather(*(owner.call("items")[0] for _ in range(20)), return_exceptions=True)
    assert {(type(result), str(result)) for result in later} == {(seen, str(results[0]))}
    assert owner.made == ["items"]
    assert owner.creations.counts.refused == 20
    row = owner.tables.creation_locks[shape_of().comparable]
    assert type(row.error()) is seen
    await owner.tables.creation_locks.changed(shape_of().comparable)
    assert owner.lock("items") is None
    owner.gates["items"] = asyncio.get_running_loop().create_future()
    owner.gate("items").set_result(None)
    assert await owner.call("items")[0] == "items-2"


async def test_a_change_of_the_table_answers_only_those_who_wait() -> None:
    """They check the definition again and ask for its shape at once."""
    owner, seen = Owner(), list[CreationState | None]()
    comparable = shape_of().comparable
    owner.tables.creation_locks.watch(comparable, lambda row: seen.append(row and row.state))
    calls = [owner.call("items")[0] for _ in range(3)]
    await turns()
    owner.gate("items").set_exception(SchemaChanged("changed"))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {SchemaChanged}
    assert seen == [CreationState.IN_PROGRESS, CreationState.FAILED, None]
    owner.gates["items"] = asyncio.get_running_loop().create_future()
    owner.gate("items").set_result(None)
    assert await owner.call("items")[0] == "items-2"


async def test_the_timer_of_an_older_failure_does_not_remove_a_newer_row() -> None:
    owner = Owner()
    locks, comparable = owner.locks, shape_of().comparable
    old = locks.claim(comparable)
    locks.clear(comparable, old)
    new = locks.claim(comparable)
    locks.fail(comparable, new, CreationFailed("newer"))
    locks.clear(comparable, old)
    locks.begin_table_wait(comparable, old)
    assert owner.lock("items") is CreationState.FAILED
    locks.clear(comparable, new)
    assert owner.lock("items") is None


async def test_a_creation_without_callers_is_not_begun() -> None:
    owner = Owner(limit=1)
    owner.call("first")
    await turns()
    calls = [owner.call("second", oid=2) for _ in range(3)]
    await turns()
    assert owner.lock("second") is CreationState.IN_PROGRESS
    for _, context in calls:
        context.cancel()
    await turns()
    assert owner.lock("second") is None
    assert (owner.creations.slots.waiting, owner.creations.counts.skipped) == (0, 1)
    owner.gate("first").set_result(None)
    await turns()
    assert owner.made == ["first"]
    await asyncio.gather(*(task for task, _ in calls), return_exceptions=True)


async def test_one_remaining_caller_keeps_the_creation() -> None:
    owner = Owner(limit=1)
    owner.call("first")
    await turns()
    (leaving, context), (staying, _) = owner.call("second", oid=2), owner.call("second", oid=2)
    await turns()
    context.cancel()
    await turns()
    owner.gate("first").set_result(None)
    owner.gate("second").set_result(None)
    assert await staying == "second-2"
    await asyncio.gather(leaving, return_exceptions=True)


async def test_a_creation_that_has_begun_continues_without_callers() -> None:
    owner = Owner()
    task, context = owner.call("items")
    await turns()
    context.cancel()
    await turns()
    owner.gate("items").set_result(None)
    await turns()
    assert owner.creations.activated(shape_of().comparable) == "items-1"
    assert owner.lock("items") is None
    await asyncio.gather(task, return_exceptions=True)


async def test_a_call_after_all_callers_left_makes_a_new_claim() -> None:
    owner = Owner(limit=1)
    owner.call("first")
    await turns()
    _, context = owner.call("second", oid=2)
    await turns()
    context.cancel()
    await turns(2)
    again, _ = owner.call("second", oid=2)
    owner.gate("first").set_result(None)
    owner.gate("second").set_result(None)
    assert await again == "second-2"


async def test_a_creation_that_waits_for_old_writers_releases_its_slot() -> None:
    owner = Owner(limit=2)
    for number in range(20):
        owner.held_by_writers[f"held{number}"] = asyncio.Event()
        owner.call(f"held{number}")
    await turns()
    assert owner.creations.slots.in_use == 0
    assert owner.lock("held0") is CreationState.WAITING_FOR_TABLE_LOCK
    owner.gate("items").set_result(None)
    assert (await owner.call("items", oid=2)[0]).startswith("items-")
    owner.held_by_writers["held0"].set()
    await turns()
    assert owner.lock("held0") is CreationState.IN_PROGRESS
    assert owner.creations.slots.in_use == 1
    await owner.creations.close()
    assert owner.creations.slots.in_use == 0


async def test_closing_cancels_all_and_leaves_no_lock() -> None:
    owner = Owner(limit=1)
    calls = [owner.call(table)[0] for table in ("one", "two", "three")]
    await turns()
    await owner.creations.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {CreationFailed}
    assert {str(result) for result in results} == {"The service is stopping"}
    assert len(owner.tables.creation_locks) == 0
    assert owner.creations.running == 0


@pytest.mark.parametrize("steps", [0, 1, 5])
async def test_a_creation_that_is_cancelled_leaves_no_lock(steps: int) -> None:
    owner = Owner()
    known = asyncio.all_tasks()
    waiting = owner.creations.create_or_wait(shape_of(), CallContext(time.monotonic() + 60))
    (creating,) = asyncio.all_tasks() - known
    await turns(steps)
    creating.cancel()
    with pytest.raises(NotNow, match="stopping"):
        await waiting
    assert owner.lock("items") is None
    assert (owner.creations.running, owner.creations.slots.in_use) == (0, 0)
    owner.gates.clear()
    owner.gate("items").set_result(None)
    assert await owner.call("items")[0] == f"items-{len(owner.made)}"


LATE = RequestError.field("where", "fails for a row of the table")


@pytest.mark.parametrize(
    ("error", "pauses"),
    [(LATE, [10, 20, 40, 60, 60]), (CreationFailed("connection lost"), [1, 2, 4, 8, 16])],
)
def test_snapshots_that_fail_late_are_tried_again_more_and_more_rarely(
    error: PgShapesError, pauses: list[float]
) -> None:
    failures = creations.LateFailures()
    assert [failures.pause_s(b"a", error) for _ in pauses] == pauses
    assert failures.pause_s(b"b", error) == pauses[0]
    failures.forget(b"a")
    assert failures.pause_s(b"a", error) == pauses[0]


def test_late_failures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creations, "LATE_FAILURES_KEPT", 3)
    failures = creations.LateFailures()
    for number in range(10):
        failures.pause_s(b"%d" % number, LATE)
    assert len(failures._counts) == 3


async def test_a_late_failure_answers_until_its_pause_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creations, "PASSING_FAILURE_LASTS_S", 0.02)
    owner = Owner()
    comparable = shape_of().comparable
    owner.creations._locks.fail_again(comparable, NotNow("connection lost"))
    with pytest.raises(CreationFailed, match="connection lost") as failure:
        await owner.call("items")[0]
    assert failure.value.retry_after_s == 1
    assert owner.made == []
    while owner.lock("items") is not None:
        await asyncio.sleep(0.005)
    call = owner.call("items")[0]
    await turns()
    owner.gate("items").set_result(None)
    assert await call == "items-1"


async def test_a_closed_owner_creates_nothing() -> None:
    """Another one has taken its place, and nothing would route the changes of the shape."""
    owner = Owner()
    await owner.creations.close()
    waiting, _ = owner.call("items")
    with pytest.raises(CreationFailed):
        await waiting
    assert not owner.made
    assert len(owner.tables.creation_locks) == 0


async def test_a_timer_of_an_owner_that_has_ended_does_not_remove_a_lock_of_the_next() -> None:
    tables, shape = Tables(), shape_of("items")
    ended = CreationLocks(tables)
    ended.fail(shape.comparable, ended.claim(shape.comparable), CreationFailed("why"), lasts_s=0.01)
    CreationLocks(tables).claim(shape.comparable)
    await asyncio.sleep(0.05)
    assert tables.creation_locks[shape.comparable].state is CreationState.IN_PROGRESS
