"""The order of an acknowledgement: sync → record, durably → acknowledge."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pgshapes.errors import StorageError
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalogue import Statement
from pgshapes.owner.durability import Durability, Recorded
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.flush_boundary import FlushBoundary


class Witness:
    """Store, catalogue and Postgres: each records its calls, and completes them when the test lets it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.boundary = FlushBoundary(100)
        self.delivered = DeliveredTransactions()
        self.durability = Durability(self, self, self.boundary, self.delivered, self.current_snapshot)
        self.durability.acknowledge = lambda lsn: self.events.append(f"acknowledged {lsn}")
        self.syncs: list[asyncio.Future[None]] = []
        self.commits: list[asyncio.Future[None]] = []
        self.snapshots: list[asyncio.Future[SnapshotVisibility]] = []

    async def sync(self) -> None:
        """As the store does."""
        self.events.append("sync begun")
        self.syncs.append(asyncio.get_running_loop().create_future())
        await self.syncs[-1]
        self.events.append("sync done")

    def put(self, *statements: Statement) -> asyncio.Future[None]:
        """As the write buffer does."""
        (statement,) = statements
        lsn = msgspec.json.decode(statement.parameters[1], type=Recorded).lsn
        self.events.append(f"record {lsn}")
        self.commits.append(asyncio.get_running_loop().create_future())
        self.commits[-1].add_done_callback(lambda _: self.events.append(f"record {lsn} ended"))
        return self.commits[-1]

    async def current_snapshot(self) -> SnapshotVisibility:
        """As the database does."""
        self.snapshots.append(asyncio.get_running_loop().create_future())
        return await self.snapshots[-1]


async def settle() -> None:
    """Let all ready tasks run."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def witness() -> Witness:
    """A witness whose boundary is past the recorded LSN."""
    witness = Witness()
    witness.boundary.advance(200)
    return witness


async def test_nothing_is_recorded_before_it_is_synced(witness: Witness) -> None:
    cycle = asyncio.create_task(witness.durability.cycle())
    await settle()
    assert witness.events == ["sync begun"]
    witness.syncs[0].set_result(None)
    await settle()
    assert witness.events == ["sync begun", "sync done", "record 200"]
    witness.commits[0].set_result(None)
    await cycle


async def test_nothing_is_acknowledged_before_it_is_recorded(witness: Witness) -> None:
    cycle = asyncio.create_task(witness.durability.cycle())
    await settle()
    witness.syncs[0].set_result(None)
    await settle()
    assert "acknowledged 200" not in witness.events
    assert witness.durability.recorded_lsn == 100
    witness.commits[0].set_result(None)
    await cycle
    assert witness.events == ["sync begun", "sync done", "record 200", "record 200 ended", "acknowledged 200"]
    assert witness.durability.recorded_lsn == 200


async def test_the_boundary_is_taken_before_the_sync(witness: Witness) -> None:
    """Entries that are appended during the sync may not be part of it."""
    cycle = asyncio.create_task(witness.durability.cycle())
    await settle()
    witness.boundary.advance(300)
    witness.syncs[0].set_result(None)
    await settle()
    witness.commits[0].set_result(None)
    await cycle
    assert witness.events[-1] == "acknowledged 200"


async def test_what_is_held_is_not_acknowledged(witness: Witness) -> None:
    hold = witness.boundary.hold()
    witness.boundary.advance(300)
    cycle = asyncio.create_task(witness.durability.cycle())
    await settle()
    witness.syncs[0].set_result(None)
    await settle()
    witness.commits[0].set_result(None)
    await cycle
    await witness.durability.cycle()
    assert witness.events[-1] == "acknowledged 200"
    witness.boundary.release(hold)
    assert witness.boundary.acknowledgeable() == 300


async def test_a_sync_that_fails_records_nothing(witness: Witness) -> None:
    lost: list[str] = []
    witness.durability.on_sync_failed = lost.extend
    cycle = asyncio.create_task(witness.durability.cycle())
    await settle()
    witness.syncs[0].set_exception(StorageError("the disk is gone", handles=["1"]))
    with pytest.raises(StorageError):
        await cycle
    assert witness.events == ["sync begun"]
    assert lost == ["1"]


async def test_a_record_that_fails_acknowledges_nothing(witness: Witness) -> None:
    cycle = asyncio.create_task(witness.durability.cycle())
    await settle()
    witness.syncs[0].set_result(None)
    await settle()
    witness.commits[0].set_exception(StorageError("the disk is full"))
    with pytest.raises(StorageError):
        await cycle
    assert witness.events[-1] == "record 200 ended"
    assert witness.durability.recorded_lsn == 100


@pytest.mark.parametrize(
    "error", [StorageError("the disk is gone"), RuntimeError("can't start new thread"), KeyError(1)], ids=repr
)
async def test_any_error_is_known_until_a_cycle_succeeds(witness: Witness, error: Exception) -> None:
    cycle = asyncio.create_task(witness.durability.cycle())
    await settle()
    witness.syncs[0].set_exception(error)
    with pytest.raises(type(error)):
        await cycle
    assert witness.durability.failing is not None
    cycle = asyncio.create_task(witness.durability.cycle())
    await settle()
    witness.syncs[1].set_result(None)
    await settle()
    witness.commits[0].set_result(None)
    await cycle
    assert witness.durability.failing is None


async def test_an_older_position_is_never_recorded_after_a_newer_one(witness: Witness) -> None:
    """At the end of a session a cycle is requested while another one runs."""
    witness.delivered.add(1, 150)
    first = asyncio.create_task(witness.durability.cycle())
    await settle()
    witness.syncs[0].set_result(None)
    await settle()
    witness.boundary.advance(300)
    second = asyncio.create_task(witness.durability.cycle())
    while not (first.done() and second.done()):
        await settle()
        # The first one is blocked while other tasks can run.
        plain = [waiting for waiting in (*witness.syncs, *witness.commits) if not waiting.done()]
        snapshots = [waiting for waiting in reversed(witness.snapshots) if not waiting.done()]
        if plain:
            plain[0].set_result(None)
        elif snapshots:
            snapshots[0].set_result(SnapshotVisibility(1, 1, (), 300))
    acknowledged = [event for event in witness.events if event.startswith("acknowledged")]
    recorded = [event for event in witness.events if event.endswith("ended")]
    assert (recorded, acknowledged) == (
        ["record 200 ended", "record 300 ended"],
        ["acknowledged 200", "acknowledged 300"],
    )
