"""The slot is recreated while a shape is asked for: the shape that the client gets has every later change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest
from tests.support.cancellation.stage import Stage, open_stage

from pgshapes.errors import PgShapesError
from pgshapes.gates.conditions import Level
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RawShape, ResolvedShape
from pgshapes.postgres.snapshot import Snapshot
from pgshapes.tables.calls import CreateOrWaitShapeHandle

pytestmark = pytest.mark.slow

WAIT_S = 60.0
ASKED = RawShape("public", "items", where="id > 0")


async def end_session(stage: Stage, *, by_request: bool) -> None:
    """End the session so that the next one recreates the slot; return when it has ended."""
    if by_request:
        stage.replicator.recreate_slot("a test")
        while stage.owner.change_path.obstacle() is None and stage.replicator._is_slot_kept:
            await asyncio.sleep(0.01)
        return
    await stage.run(f"DROP PUBLICATION {stage.replicator.sources.publication.name}")
    await stage.run("INSERT INTO items VALUES (2)")
    while stage.parts.readiness.level() is Level.ACTIVE:
        await asyncio.sleep(0.01)


async def create(stage: Stage, shape: ResolvedShape) -> None:
    """Ask the owner for the shape, as a process does that does not know yet that the session has ended."""
    call = stage.link.call(CreateOrWaitShapeHandle(shape), timeout_s=WAIT_S)
    try:
        await call
    except PgShapesError:
        """It is asked again."""


@pytest.mark.parametrize("when", ["before", "after", "after, without a publication"])
async def test_a_shape_of_that_time_has_every_change(database_url: str, tmp_path: Path, when: str) -> None:
    """It is asked for before the session ends, and is not created until it has, or after that."""
    async with open_stage(database_url, tmp_path) as stage, asyncio.timeout(WAIT_S):
        with psycopg.connect(database_url) as writer:
            await stage.run("CREATE TABLE items (id int PRIMARY KEY)")
            await stage.run("ALTER TABLE items REPLICA IDENTITY FULL")  # or the first shape changes the table
            await stage.run("CREATE TABLE other ()")
            await stage.run("INSERT INTO items VALUES (1)")
            assert (await stage.ask(table="items", offset="-1")).ids == [1]
            first, shape = stage.owner, await stage.parts.shapes.resolve(ASKED)
            writer.execute("INSERT INTO other DEFAULT VALUES")  # the slot cannot be created meanwhile
            gate = asyncio.Event()
            if when == "before":
                hold_snapshots(stage, gate)
                creating = asyncio.create_task(create(stage, shape))
                while not first.creations.running:
                    await asyncio.sleep(0.01)
            await end_session(stage, by_request="publication" not in when)
            if when != "before":
                creating = asyncio.create_task(create(stage, shape))
                while not stage.mailbox.depth:
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(writer.commit)
        while stage.replicator.owner is first:
            await asyncio.sleep(0.01)
        gate.set()
        await creating
        await stage.parts.readiness.wait_until(Level.ACTIVE, WAIT_S)
        await follow_to_row(stage, 3)


def hold_snapshots(stage: Stage, gate: asyncio.Event) -> None:
    """Let snapshots begin when the gate is set."""
    source = stage.replicator.sources.snapshots
    borrow = source.borrow

    async def held(relation: Relation) -> Snapshot:
        await gate.wait()
        return await borrow(relation)

    source.borrow = held  # type: ignore[method-assign]


async def follow_to_row(stage: Stage, number: int) -> None:
    """Insert a row, and follow the shape until it is there."""
    answer = await stage.ask(table="items", offset="-1", where=ASKED.where or "")
    assert 1 in answer.ids
    await stage.run(f"INSERT INTO items VALUES ({number})")
    while number not in answer.ids:
        place = {name: answer.headers[f"electric-{name}"] for name in ("handle", "offset")}
        answer = await stage.ask(table="items", where=ASKED.where or "", live="true", **place)
        assert answer.status == 200, answer.body
