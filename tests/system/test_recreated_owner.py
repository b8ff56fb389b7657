"""The slot is recreated: shapes that are asked for meanwhile get every later change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import psycopg
import pytest
from tests.support.cancellation.stage import Stage, open_stage

from pgshapes.errors import PgShapesError, SourceError
from pgshapes.gates.conditions import Level
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RawShape, ResolvedShape
from pgshapes.owner import session
from pgshapes.owner.replicator import Replicator
from pgshapes.owner.session import StartPoint
from pgshapes.postgres.snapshot import Snapshot
from pgshapes.shape_log.file_store.log import FileShapeLog
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.tables.calls import CreateOrWaitShapeHandle

pytestmark = pytest.mark.slow

WAIT_S = 60.0
ASKED = RawShape("public", "items", where="id > 0")


async def end_session(stage: Stage, *, by_request: bool) -> None:
    """End the session so that the next one recreates the slot; return when it has ended."""
    if by_request:
        stage.replicator.recreate_slot("a test")
    else:
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


@pytest.mark.parametrize("when", ["before", "before, without a row", "after", "after, without a publication"])
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
            if when.startswith("before"):
                hold(stage, gate, "snapshot" if when == "before" else "row")
                creating = asyncio.create_task(create(stage, shape))
                while not first.creations.running:
                    await asyncio.sleep(0.01)
            await end_session(stage, by_request="publication" not in when)
            if when.startswith("after"):
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


def hold(stage: Stage, gate: asyncio.Event, what: str) -> None:
    """Let creations go on with their row, or with their snapshot, when the gate is set."""
    creator, source = stage.owner.creator, stage.replicator.sources.snapshots
    relations, borrow = creator._relations, source.borrow

    async def held_relations(shape: ResolvedShape) -> tuple[Relation, ...]:
        await gate.wait()
        return await relations(shape)

    async def held_borrow(relation: Relation) -> Snapshot:
        await gate.wait()
        return await borrow(relation)

    if what == "row":
        creator._relations = held_relations  # type: ignore[method-assign]
    else:
        source.borrow = held_borrow  # type: ignore[method-assign]


async def create_items_and_ask(stage: Stage) -> None:
    """Create the table with one row, and a shape of it."""
    await stage.run("CREATE TABLE items (id int PRIMARY KEY)")
    await stage.run("INSERT INTO items VALUES (1)")
    assert (await stage.ask(table="items", offset="-1")).ids == [1]


async def follow_to_row(stage: Stage, number: int) -> None:
    """Insert a row, and follow the shape until it is there."""
    answer = await stage.ask(table="items", offset="-1", where=ASKED.where or "")
    assert 1 in answer.ids
    await stage.run(f"INSERT INTO items VALUES ({number})")
    while number not in answer.ids:
        place = {name: answer.headers[f"electric-{name}"] for name in ("handle", "offset")}
        answer = await stage.ask(table="items", where=ASKED.where or "", live="true", **place)
        assert answer.status == 200, answer.body


async def test_no_shape_is_created_while_the_others_are_discarded(database_url: str, tmp_path: Path) -> None:
    """It would be in the tables, and in no router."""
    async with open_stage(database_url, tmp_path) as stage, asyncio.timeout(WAIT_S):
        await stage.run("CREATE TABLE items (id int PRIMARY KEY)")
        await stage.run("ALTER TABLE items REPLICA IDENTITY FULL")  # or the first shape changes the table
        await stage.run("INSERT INTO items VALUES (1)")
        handle = (await stage.ask(table="items", offset="-1")).headers["electric-handle"]
        first, shape, gate = stage.owner, await stage.parts.shapes.resolve(ASKED), asyncio.Event()
        remove = first.store.remove

        async def remove_later(handles: Collection[str]) -> None:
            if handle in handles:
                gate.set()
                while first.creations.running:
                    await asyncio.sleep(0.01)
            await remove(handles)

        first.store.remove = remove_later  # type: ignore[method-assign]
        hold(stage, gate, "row")
        creating = asyncio.create_task(create(stage, shape))
        while not first.creations.running:
            await asyncio.sleep(0.01)
        await end_session(stage, by_request=True)
        await creating
        while stage.replicator.owner in (first, None):
            await asyncio.sleep(0.01)
        assert gate.is_set()
        assert {each for each, _ in stage.tables.shapes.items()} <= stage.owner.router._shapes.keys()


@pytest.mark.parametrize("step", ["drop_slot", "create_slot"])
async def test_a_session_that_ends_while_it_recreates_the_slot(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The next one knows, by what is in the database, that the slot is older than the publication."""
    take_step, failed = getattr(session, step), list[int]()

    async def fail_once(*arguments: object, **options: object) -> object:
        if not failed:
            failed.append(1)
            raise SourceError("the connection was lost")
        return await take_step(*arguments, **options)

    async with open_stage(database_url, tmp_path) as stage, asyncio.timeout(WAIT_S):
        await create_items_and_ask(stage)
        monkeypatch.setattr(session, step, fail_once)
        first = stage.owner
        await end_session(stage, by_request=False)
        while stage.replicator.owner in (first, None):
            await asyncio.sleep(0.01)
        await stage.parts.readiness.wait_until(Level.ACTIVE, WAIT_S)
        await follow_to_row(stage, 3)
    assert failed


async def test_a_publication_that_was_replaced_while_nobody_looked(
    database_url: str, tmp_path: Path, sql: psycopg.Connection
) -> None:
    """The stream of the old slot fails where there was none, so the slot is recreated."""
    async with open_stage(database_url, tmp_path) as stage:
        await create_items_and_ask(stage)
        name = stage.replicator.sources.publication.name
    sql.execute(f"DROP PUBLICATION {name}")
    sql.execute("INSERT INTO items VALUES (2)")
    sql.execute(f"CREATE PUBLICATION {name} WITH (publish_via_partition_root = true)")
    async with open_stage(database_url, tmp_path) as stage, asyncio.timeout(WAIT_S):
        await follow_to_row(stage, 3)


async def test_a_recovery_that_is_interrupted_ends_before_the_next_begins(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in a thread. If it ended later, the store would forget the shapes that were made meanwhile."""
    async with open_stage(database_url, tmp_path) as stage:
        await create_items_and_ask(stage)
        while stage.owner.creator.writings:
            await asyncio.sleep(0.01)
    recover, load = FileShapeStore.recover, Replicator._load
    interrupt: list[Callable[[], object]] = []
    running, most = list[int](), list[int]()

    async def load_interruptible(replicator: Replicator, start: StartPoint) -> None:
        loop = asyncio.get_running_loop()
        interrupt.append(lambda: loop.call_soon_threadsafe(replicator.recreate_slot, "a test"))
        await load(replicator, start)

    def recover_slowly(store: FileShapeStore, live: Collection[str], lsn: int) -> dict[str, FileShapeLog]:
        running.append(1)
        most.append(len(running))
        if len(interrupt) == 1:
            interrupt[0]()
            time.sleep(0.3)
        try:
            return recover(store, live, lsn)
        finally:
            running.pop()

    monkeypatch.setattr(Replicator, "_load", load_interruptible)
    monkeypatch.setattr(FileShapeStore, "recover", recover_slowly)
    async with open_stage(database_url, tmp_path) as stage, asyncio.timeout(WAIT_S):
        await follow_to_row(stage, 3)
    assert most == [1, 1]
