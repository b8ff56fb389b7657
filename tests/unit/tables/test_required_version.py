"""Tables are served from only while no newer ones are required."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.seams.links import Script, eventually, listening, turns
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.errors import ConfigError, OwnerUnavailable
from pgshapes.gates.conditions import Condition, Conditions, Level, ServiceStatus
from pgshapes.gates.readiness import StatusMonitor
from pgshapes.model.shape_state import ShapeState
from pgshapes.model.tail import Tail
from pgshapes.shape_cache.shape_cache import ShapeCache
from pgshapes.tables import unix_link
from pgshapes.tables.deltas import Rows
from pgshapes.tables.required_version import create_required_version, map_required_version
from pgshapes.tables.rows import ConditionRow, ShapeRow
from pgshapes.tables.tables import Tables
from pgshapes.tables.unix_link import ReadStored, UnixSocketLink

SHAPE = shape_of()
KEY = SHAPE.comparable


class Instance:
    """The files of an instance, and callers that may lose their link."""

    def __init__(self, directory: Path) -> None:
        self.required = directory / "required"
        self.socket = directory / "owner"
        create_required_version(self.required)

    def owner(self) -> Tables:
        """The tables of a new owner, with one live shape."""
        tables = Tables(required=map_required_version(self.required))
        for condition in Condition:
            Conditions(tables.status).meet(condition)
        with tables.transaction():
            tables.tails.put("h", Tail())
            tables.shapes.put("h", ShapeRow(KEY, (1,), ShapeState.LIVE))
            tables.handles.put(KEY, "h")
        return tables

    def caller(self, read_stored: ReadStored | None = None) -> Caller:
        """A process that answers requests."""
        required = map_required_version(self.required)
        return Caller(UnixSocketLink(self.socket, required=required, read_stored=read_stored))


class Caller:
    """A process that answers requests; connected during the block."""

    def __init__(self, link: UnixSocketLink) -> None:
        self.link = link
        self.cache = ShapeCache(link)
        self.readiness = StatusMonitor(
            link.tables.status,
            is_following=lambda: link.is_following,
            is_current=link.tables.is_current,
        )

    async def __aenter__(self) -> Caller:
        self.link.start()
        await self.link.connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        """It keeps its tables, but cannot reach the owner any more."""
        await self.link.close()

    def serves(self) -> bool:
        """Whether it serves the shape; every way to read of it must say the same."""
        found = set()
        for read in (lambda: self.cache.tail("h"), lambda: self.cache.find_handle(SHAPE)):
            try:
                found.add(read() is not None)
            except OwnerUnavailable:
                found.add(False)
        found.add(self.readiness.level() is not Level.STARTING)
        (served,) = found
        assert served or self.readiness.service_status() is ServiceStatus.STARTING
        return served


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


async def test_known_shapes_are_served_until_a_new_owner_begins(instance: Instance) -> None:
    async with listening(instance.socket, instance.owner(), Script()):
        async with instance.caller() as caller:
            assert caller.serves()
        assert caller.serves()
    assert caller.serves(), "the owner has ended"
    second = instance.owner()
    assert caller.serves(), "the new owner prepares its tables"
    async with listening(instance.socket, second, Script()):
        assert not caller.serves()
        async with instance.caller() as other:
            assert other.serves()
    assert not caller.serves()
    assert other.serves()


async def test_nothing_is_served_before_an_owner_has_sent_its_tables(instance: Instance) -> None:
    caller = instance.caller()
    with pytest.raises(OwnerUnavailable):
        async with listening(instance.socket, instance.owner(), Script()):
            caller.cache.tail("h")
    assert caller.readiness.level() is Level.STARTING


async def test_a_caller_that_has_lost_its_link_does_not_serve_after_a_removal(instance: Instance) -> None:
    tables = instance.owner()
    async with listening(instance.socket, tables, Script()), instance.caller() as follower:
        async with instance.caller() as lost:
            tables.progress.put("n", 1)
            await lost.link.barrier(timeout_s=10)
        for _ in range(3):
            tables.progress.put("n", 2)
            tables.broadcast.flush()
            assert lost.serves(), "nothing was removed"
        tables.shapes.put("h", ShapeRow(KEY, (1,), ShapeState.RETIRING))
        await tables.acknowledged()
        assert not lost.serves()
        assert follower.link.tables.is_current() and follower.cache.tail("h") is None
        async with instance.caller() as again:
            assert again.link.tables.is_current()


async def test_a_removal_counts_although_nobody_was_linked_when_it_was_made(instance: Instance) -> None:
    tables = instance.owner()
    async with listening(instance.socket, tables, Script()):
        async with instance.caller() as lost:
            assert lost.serves()
        await eventually(lambda: not tables.broadcast._feeds)
        tables.shapes.put("h", ShapeRow(KEY, (1,), ShapeState.RETIRING))
        async with instance.caller() as other:
            await tables.acknowledged()
            assert other.link.tables.is_current()
        assert not lost.serves()


def stored_rows() -> Rows:
    """The shape, as the owner has stored it."""
    rows = Rows()
    rows.add("tails", "h", Tail())
    rows.add("shapes", "h", ShapeRow(KEY, (1,), ShapeState.LIVE))
    rows.add("handles", KEY, "h")
    rows.add("status", Condition.SHAPE_METADATA_READY.value, ConditionRow(True))
    return rows


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_link, "CHECK_S", 0.001)


@pytest.mark.usefixtures("at_once")
async def test_what_is_stored_is_served_while_the_owner_is_away(instance: Instance) -> None:
    async with listening(instance.socket, instance.owner(), Script()):
        pass
    caller = instance.caller(stored_rows)
    caller.link.start()
    await eventually(caller.serves)
    assert caller.readiness.level() is Level.READ_ONLY
    assert caller.readiness.service_status() is ServiceStatus.WAITING
    second = instance.owner()
    second.progress.put("second", 1)
    async with listening(instance.socket, second, Script()):
        await caller.link.connected()
        assert caller.serves() and "second" in caller.link.tables.progress
    await caller.link.close()


@pytest.mark.usefixtures("at_once")
async def test_nothing_that_is_stored_is_served_before_an_owner_of_this_run_began(instance: Instance) -> None:
    reads: list[None] = []

    def read_stored() -> Rows:
        reads.append(None)
        return stored_rows()

    caller = instance.caller(read_stored)
    caller.link.start()
    await asyncio.sleep(0.05)
    assert not reads
    await caller.link.close()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("event", ["a removal", "a new owner"])
async def test_what_happens_while_stored_rows_are_read_is_not_missed(instance: Instance, event: str) -> None:
    tables = instance.owner()
    tables.begin_epoch()
    reads: list[None] = []

    def read_stored() -> Rows:
        reads.append(None)
        if len(reads) > 1:
            return Rows()
        rows = stored_rows()
        if event == "a removal":
            tables.shapes.put("h", ShapeRow(KEY, (1,), ShapeState.RETIRING))
            asyncio.run(tables.acknowledged())
        else:
            instance.owner().begin_epoch()
        return rows

    caller = instance.caller(read_stored)
    caller.link.start()
    await eventually(lambda: len(reads) > 1)
    assert not caller.serves()
    await eventually(caller.link.tables.is_current)
    assert caller.cache.tail("h") is None
    await caller.link.close()


@pytest.mark.usefixtures("at_once")
async def test_a_failed_read_is_repeated(instance: Instance) -> None:
    instance.owner().begin_epoch()
    errors: list[Exception] = [OSError("no descriptor"), ConfigError("locked"), ValueError("a defect")]

    def read_stored() -> Rows:
        if errors:
            raise errors.pop()
        return stored_rows()

    caller = instance.caller(read_stored)
    caller.link.start()
    await eventually(caller.serves)
    await caller.link.close()


async def test_a_caller_that_is_late_does_not_serve_until_it_has_what_is_required(instance: Instance) -> None:
    """It keeps its link, and does not know that it lacks anything but by the required version."""
    tables = instance.owner()
    async with listening(instance.socket, tables, Script()), instance.caller() as late:
        connection = late.link._connection
        assert late.serves() and connection is not None and connection._transport is not None
        connection._transport.pause_reading()
        tables.shapes.put("other", ShapeRow(b"other", (1,), ShapeState.RETIRING))
        await tables.acknowledged()
        assert late.link.is_connected and not late.serves()
        waiting = asyncio.ensure_future(late.readiness.wait_until(Level.READ_ONLY, 60))
        await turns()
        assert not waiting.done()
        connection._transport.resume_reading()
        async with asyncio.timeout(10):
            await waiting
        assert late.serves() and late.readiness.level() is Level.ACTIVE
        assert late.link.syncs == 1


async def test_frames_of_a_new_owner_have_higher_numbers_than_were_required(instance: Instance) -> None:
    first = instance.owner()
    await first.acknowledged()
    second = instance.owner()
    assert second.broadcast.number > second.required[1] > 0


async def test_an_owners_own_tables_are_always_current() -> None:
    tables = Tables()
    tables.progress.put("n", 1)
    await tables.acknowledged()
    await asyncio.sleep(0)
    assert tables.is_current()


def test_a_file_that_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="required"):
        map_required_version(tmp_path / "required")
