"""What was announced about dropped relations is forgotten, and nothing that is still needed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest
from tests.support.seams.routing_samples import (
    ITEMS,
    LEAF,
    ROOT,
    announcement,
    column,
    inserted,
    live,
    new_router,
    relation,
    transaction,
)

from pgshapes.errors import NotNow, WireError
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.dropped_relations import DroppedRelations
from pgshapes.postgres.pgoutput_messages import Begin, Commit, Insert, RelationMessage
from pgshapes.routing.announcements import Announcement
from pgshapes.routing.assembler import TransactionAssembler
from pgshapes.routing.flush_boundary import FlushBoundary

DAYS = 200


@dataclass
class Database:
    """The relations that exist, as a snapshot sees them."""

    oids: set[int] = field(default_factory=set)
    next_xid: int = 2**31
    """Transactions from here on are not visible."""
    insert_lsn: int = 0
    error: Exception | None = None

    async def visibility(self) -> SnapshotVisibility:
        if self.error is not None:
            raise self.error
        return SnapshotVisibility(self.next_xid, self.next_xid, (), self.insert_lsn)

    async def existing(self, oids: Collection[int]) -> set[int]:
        return self.oids.intersection(oids)


class Stream:
    """A router and an assembler that get the same messages, and what prunes them."""

    def __init__(self) -> None:
        self.database, self.router, self.boundary = Database(), new_router(), FlushBoundary(0)
        self.assembler = TransactionAssembler()
        self.dropping = DroppedRelations(
            self.database, self.router, self.boundary, self._forget, interval_s=0.0, check_from=1
        )
        self._lsn = 0

    def _forget(self, dropped: Mapping[int, Announcement]) -> None:
        for one in dropped.values():
            if one.message is not None:
                self.assembler.forget(one.message)

    def announce(self, message: RelationMessage) -> None:
        """A transaction announces a relation; it exists then."""
        self._lsn += 10
        at = self._lsn
        self.assembler.feed(Begin(at, 0, at), at)
        self.assembler.feed(message, 0)
        self.router.announce(message, (at, at))
        self.assembler.feed(Commit(at, at + 1, 0), at + 1)
        self.boundary.advance(at + 1)
        self.database.oids.add(message.oid)

    async def check(self) -> set[int]:
        """The relations that are known after a check and the next one."""
        await self.dropping.check()
        await self.dropping.check()
        return self.known()

    def known(self) -> set[int]:
        """The relations that the router and the assembler know."""
        known = set(self.router.announcements.without(lambda _: False))
        assert self.assembler._relations.keys() == self.assembler._widths.keys() == known
        return known


def table(oid: int) -> RelationMessage:
    return announcement(ITEMS, oid=oid, name=f"day_{oid}")


async def test_partitions_that_come_and_go_take_no_memory() -> None:
    stream = Stream()
    for day in range(DAYS):
        stream.announce(table(1_000 + day))
        stream.database.oids.discard(1_000 + day - 3)
        await stream.check()
        assert len(stream.known()) < 10
        assert len(stream.router._targets) < 10


async def test_a_relation_that_exists_is_kept() -> None:
    stream = Stream()
    stream.announce(announcement(relation(column("other"), oid=10)))
    stream.announce(table(1_000))
    stream.database.oids.discard(1_000)
    assert await stream.check() == {10}
    live(stream.router, "h")
    rows_of_other_columns = transaction(900, inserted(0, "1", "t", "2"))
    assert not stream.router.route(rows_of_other_columns).appends


async def test_a_relation_with_shapes_is_kept() -> None:
    """It is dropped, but its shapes have not ended yet."""
    stream = Stream()
    live(stream.router, "h")
    stream.announce(announcement(ITEMS))
    stream.database.oids.clear()
    assert await stream.check() == {10}


async def test_a_relation_is_kept_until_its_changes_are_processed() -> None:
    stream = Stream()
    stream.announce(table(1_000))
    stream.database.oids.clear()
    stream.database.insert_lsn = 500
    assert await stream.check() == {1_000}
    stream.assembler.feed(Begin(400, 0, 7), 400)
    assert stream.assembler.feed(Insert(1_000, ("1", "t", "2")), 399) == ()
    stream.boundary.advance(500)
    assert await stream.check() == set()
    with pytest.raises(WireError, match="no RELATION message"):
        stream.assembler.feed(Insert(1_000, ("1", "t", "2")), 399)


async def test_a_relation_that_is_not_visible_yet_is_kept() -> None:
    """A transaction is sent before it is visible: it is not dropped, but new."""
    stream = Stream()
    stream.announce(table(1_000))
    stream.database.oids.clear()
    stream.database.next_xid = 5
    assert await stream.check() == {1_000}


async def test_a_relation_that_is_announced_again_is_kept() -> None:
    """The oid was used again meanwhile, or a new session has begun at an earlier position."""
    stream = Stream()
    stream.announce(table(1_000))
    stream.database.oids.clear()
    await stream.dropping.check()
    stream.announce(table(1_000))
    await stream.dropping.check()
    assert stream.known() == {1_000}


async def test_checks_are_as_rare_as_they_are_useless() -> None:
    stream = Stream()
    for oid in range(1_000, 1_010):
        stream.announce(table(oid))
    await stream.dropping.check()
    stream.database.error = AssertionError("there is no reason to check")
    for oid in range(1_010, 1_019):
        stream.announce(table(oid))
        await stream.dropping.check()


async def test_a_check_that_fails_is_followed_by_another() -> None:
    stream = Stream()
    stream.announce(table(1_000))
    stream.database.oids.clear()
    stream.database.error = NotNow("no connection")
    running = asyncio.create_task(stream.dropping.run())
    await asyncio.sleep(0.001)
    stream.database.error = None
    async with asyncio.timeout(10):
        while stream.known():
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_new_session_keeps_what_is_compared() -> None:
    """The announcements of tables with shapes and of their leaves; all others come again."""
    router = new_router()
    live(router, "h", table=ROOT, leaves=[LEAF.oid])
    for message in (announcement(ROOT), announcement(LEAF), table(1_000)):
        router.announce(message)
    router.stream_began()
    assert set(router.announcements.without(lambda _: False)) == {ROOT.oid, LEAF.oid}


def test_a_leaf_that_is_dropped_is_no_leaf() -> None:
    """Its root continues, without it."""
    router = new_router()
    live(router, "h", table=ROOT, leaves=[LEAF.oid])
    router.announce(announcement(LEAF))
    assert router._relations[ROOT.oid]._orders.keys() == {LEAF.oid}
    router.renew(ROOT, {"h"})
    assert not router._roots
    assert not router._relations[ROOT.oid]._orders
    assert router.unused_announcements().keys() == {LEAF.oid}
