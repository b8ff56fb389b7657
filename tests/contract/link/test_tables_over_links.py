"""Reading the owner's tables through a link."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.seams.links import Pair, turns

from pgshapes.model.offset import Offset
from pgshapes.model.relation import Column, Relation
from pgshapes.model.shape_state import ShapeState
from pgshapes.model.tail import Tail
from pgshapes.tables.rows import ConditionRow, CreationLock, CreationState, ShapeRow

ID = Column("id", 23, "int4", "b", -1, 0, None, True, 0, False)
RELATION = Relation(16384, "public", "items", "r", (ID,), ("id",), 1)


async def test_every_kind_of_row_arrives_as_it_was_written(pair: Pair) -> None:
    with pair.tables.transaction():
        pair.tables.relations.put(("public", "items"), RELATION)
        pair.tables.handles.put(b"\x00comparable\xff", "h1")
        pair.tables.shapes.put("h1", ShapeRow(b"\x00comparable\xff", (16384,), ShapeState.RETIRING))
        pair.tables.tails.put("h1", Tail(Offset(2**64 - 1, 2**63 - 1), position=(12,)))
        pair.tables.creation_locks.put(b"c", CreationLock(CreationState.FAILED, 7, "no", "x"))
        pair.tables.status.put("lock", ConditionRow(False, "späte Fehler"))
        pair.tables.progress.put("last_seen_lsn", 2**64 - 1)
    await pair.link.barrier(timeout_s=10)
    seen = pair.link.tables
    relation = seen.relations[("public", "items")]
    assert isinstance(relation, Relation)
    assert (relation, relation.key_columns) == (RELATION, ("id",))
    assert seen.handles.get(b"\x00comparable\xff") == "h1"
    assert seen.shapes["h1"] == ShapeRow(b"\x00comparable\xff", (16384,), ShapeState.RETIRING)
    tail = seen.tails["h1"]
    assert isinstance(tail, Tail) and isinstance(tail.latest, Offset)
    assert tail == Tail(Offset(2**64 - 1, 2**63 - 1), position=(12,))
    assert seen.creation_locks[b"c"] == CreationLock(CreationState.FAILED, 7, "no", "x")
    assert seen.status["lock"] == ConditionRow(False, "späte Fehler")
    assert seen.progress["last_seen_lsn"] == 2**64 - 1


async def test_a_removal_removes_the_row(pair: Pair) -> None:
    pair.tables.progress.put("a", 1)
    pair.tables.progress.put("b", 2)
    assert pair.tables.progress.remove("a") == 1
    assert pair.tables.progress.remove("a") is None
    await pair.link.barrier(timeout_s=10)
    assert dict(pair.link.tables.progress.items()) == {"b": 2}
    assert "a" not in pair.link.tables.progress
    assert len(pair.link.tables.progress) == 1


async def test_a_watcher_gets_every_row_in_order_also_within_one_loop_turn(pair: Pair) -> None:
    heard: list[int | None] = []
    unwatch = pair.link.tables.progress.watch("k", heard.append)
    for value in range(50):
        pair.tables.progress.put("k", value)
        if value % 7 == 0:
            await asyncio.sleep(0)
    pair.tables.progress.remove("k")
    await pair.link.barrier(timeout_s=10)
    assert heard == [*range(50), None]
    unwatch()
    pair.tables.progress.put("k", 99)
    await pair.link.barrier(timeout_s=10)
    assert heard[-1] is None


async def test_a_transaction_is_visible_completely_or_not_at_all(pair: Pair) -> None:
    torn: list[tuple[int | None, str | None]] = []
    seen = pair.link.tables

    def look(_: object) -> None:
        state = (seen.progress.get("n"), seen.handles.get(b"n"))
        if str(state[0]) != state[1]:
            torn.append(state)

    seen.progress.watch("n", look)
    seen.handles.watch(b"n", look)
    for number in range(20):
        with pair.tables.transaction():
            pair.tables.progress.put("n", number)
            with pair.tables.transaction():
                pair.tables.handles.put(b"n", str(number))
        await asyncio.sleep(0)
    await pair.link.barrier(timeout_s=10)
    assert seen.progress["n"] == 19
    assert torn == []


async def test_a_transaction_that_fails_announces_its_changes(pair: Pair) -> None:
    with pytest.raises(ZeroDivisionError), pair.tables.transaction():
        pair.tables.progress.put("n", 1)
        _ = 1 // 0
    await pair.link.barrier(timeout_s=10)
    assert pair.link.tables.progress["n"] == 1


async def test_changed_wakes_all_waiters_of_that_key_and_no_others(pair: Pair) -> None:
    seen = pair.link.tables.progress
    waiting = [asyncio.ensure_future(seen.changed("k")) for _ in range(100)]
    other = asyncio.ensure_future(seen.changed("other"))
    await turns()
    pair.tables.progress.put("k", 1)
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert seen["k"] == 1
    assert not other.done()
    pair.tables.progress.put("other", 1)
    pair.tables.progress.remove("other")
    async with asyncio.timeout(10):
        await other


async def test_a_change_between_asking_and_awaiting_is_not_lost(pair: Pair) -> None:
    change = pair.link.tables.progress.changed("k")
    pair.tables.progress.put("k", 1)
    await pair.link.barrier(timeout_s=10)
    async with asyncio.timeout(10):
        await change


async def test_cancelling_one_waiter_does_not_end_the_others(pair: Pair) -> None:
    seen = pair.link.tables.progress
    leaving, staying = (asyncio.ensure_future(seen.changed("k")) for _ in range(2))
    await turns()
    leaving.cancel()
    await turns()
    assert leaving.cancelled() and not staying.done()
    pair.tables.progress.put("k", 1)
    async with asyncio.timeout(10):
        await staying


async def test_the_epoch_is_the_owners(pair: Pair) -> None:
    assert pair.link.epoch == pair.link.tables.epoch == pair.tables.epoch != 0


async def test_acknowledged_means_that_the_caller_has_applied_it(pair: Pair) -> None:
    for number in range(20):
        pair.tables.progress.put("n", number)
        await pair.tables.acknowledged()
        assert pair.link.tables.progress["n"] == number
