"""Compares the tables in use with the system catalogs, and ends the shapes that a change of them alters.

The stream does not report most DDL: it announces a table again with the first change after any DDL on it or
on the publication, and reports nothing while nobody writes. So the catalogs are read at every announcement,
before any change that follows it is routed, and at intervals. One query reads the stamps of all tables,
unless no transaction has ended since the last one; only a table whose stamp has changed is read whole and
compared.

Invariant: a reading is compared only with shapes that were registered before it began, and readings do not
overlap, so no shape is compared with an older state than one that it was found to continue on. State: the
last stamp of each table, in the replicator's loop.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple, Protocol

from pgshapes.errors import PgShapesError
from pgshapes.logs import get_logger
from pgshapes.model.followable import Obstacle
from pgshapes.model.relation import Part, Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.removal import ShapeCleaner
from pgshapes.owner.resolver import KnownRelations
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.postgres.relation_sql import RelationStamp, is_listed, rights_of
from pgshapes.routing.router import Router

_log = get_logger(__name__)

WATCH_INTERVAL_S: Final = 2.0
_SHARE: Final = 1000
"""The interval is this many times as long as a check takes, but at least `WATCH_INTERVAL_S`, and at most one
and a half times that.
"""
_FULL: Final = "f"
_KNOWS_PARTITIONS: Final = 150000


class ReadsRelations(Protocol):
    """The inspector, as far as it is used here."""

    async def stamps(
        self, oids: Collection[int], publication: str, *, and_published: bool = False
    ) -> dict[int, RelationStamp]:
        """The current stamps of the relations that exist; also of those that are listed in the
        publication.
        """

    async def visibility(self) -> SnapshotVisibility:
        """What a new snapshot sees."""

    async def relation_by_oid(self, oid: int) -> Relation | None:
        """The relation, or None if it does not exist."""

    async def has_rows(self, oid: int) -> bool:
        """Whether a table has rows, as far as that can be known without waiting."""

    def clean(self, oid: int | None) -> None:
        """Drop what is cached about a relation."""


class _Reading(NamedTuple):
    """What a reading of the catalogs may be compared with: the state before it began."""

    last_number: int
    """Shapes with larger numbers were registered later."""
    memberships: Mapping[str, Mapping[int, str]]


class _Check(NamedTuple):
    """The last stamps of all tables in use."""

    xids: tuple[int, int, tuple[int, ...]]
    """What was visible before the stamps were read. Another change of a catalog changes this."""
    used: frozenset[int]
    stamps: dict[int, RelationStamp]


class _Seen(NamedTuple):
    """The last comparison of a table."""

    stamp: RelationStamp
    last_number: int
    """All its shapes with this number or a smaller one were compared; -1 if some were not."""


class CatalogWatch:
    """The comparisons. `memberships` has, by handle, how the relations of a shape were published when it was
    created. `on_identity_lost` is called with tables that are not, or not in all parts, REPLICA IDENTITY
    FULL, or that have generated columns, which the publication must have, too.

    `give_up` returns why a table cannot be followed any more, once it has done what that demands. Published
    tables are checked even if they have no shapes.
    """

    def __init__(
        self,
        inspector: ReadsRelations,
        known: KnownRelations,
        router: Router,
        cleaner: ShapeCleaner,
        status: ShapeStatus,
        *,
        publication: str,
        memberships: Mapping[str, Mapping[int, str]],
        reconnect: Callable[[str], None],
        on_identity_lost: Callable[[int], None],
        give_up: Callable[[Relation], Obstacle | None] = lambda _: None,
    ) -> None:
        self._inspector = inspector
        self._publication = publication
        self._known = known
        self._router = router
        self._cleaner = cleaner
        self._status = status
        self._memberships = memberships
        self._reconnect = reconnect
        self._on_identity_lost = on_identity_lost
        self._give_up = give_up
        self._seen: dict[int, _Seen] = {}
        self._last_check: _Check | None = None
        self._is_first_check = True
        """Settings may have changed while no watch ran, and tables without shapes."""
        self._stale_roots: set[int] = set()
        """Partitioned tables of whose partitions the stream may send too little or too much."""
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Check all tables in use at intervals, until cancelled."""
        is_failing, loop = False, asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                await self.check()
                is_failing = False
            except PgShapesError as error:
                if not is_failing:
                    _log.warning("system catalogs could not be read; retrying", error=error.message)
                is_failing = True
            took_s = loop.time() - began_s
            await asyncio.sleep(min(max(WATCH_INTERVAL_S, _SHARE * took_s), 1.5 * WATCH_INTERVAL_S))

    async def check(self, oids: Iterable[int] | None = None) -> None:
        """Compare these tables, by default all that are in use, with the system catalogs as they are now.

        When it returns, shapes that the changes alter are retired. Raises NotNow, SourceError.
        """
        async with self._turn:
            reading = _Reading(self._router.last_number, dict(self._memberships))
            if oids is None:
                used = self._router.table_oids() | self._known.oids()
                stamps = await self._all_stamps(used)
            else:
                used = set(oids)
                stamps = await self._inspector.stamps(used, self._publication)
            used |= stamps.keys()
            if stamps and not any(one.has_publication for one in stamps.values()):
                self._reconnect(f'publication "{self._publication}" was dropped')
            failures = []
            for oid in used:
                try:
                    await self._compare(oid, stamps.get(oid), reading)
                except PgShapesError as error:
                    failures.append(error)
                except Exception:
                    _log.exception("table could not be compared with the system catalogs", relation_oid=oid)
                    self._end(self._router.handles_of(oid), "the table could not be compared")
            if oids is None:
                self._is_first_check = False
                self._seen = {oid: seen for oid, seen in self._seen.items() if oid in used}
            if failures:
                raise failures[0]

    async def _all_stamps(self, used: AbstractSet[int]) -> dict[int, RelationStamp]:
        """The stamps of these tables and of those that are listed in the publication."""
        xids = (await self._inspector.visibility())[:3]
        if self._last_check is None or self._last_check[:2] != (xids, used):
            self._last_check = None
            stamps = await self._inspector.stamps(used, self._publication, and_published=True)
            self._last_check = _Check(xids, frozenset(used), stamps)
        return self._last_check.stamps

    async def _compare(self, oid: int, now: RelationStamp | None, reading: _Reading) -> None:
        """Compare a table with the shapes that were registered before it was read."""
        seen = self._seen.get(oid)
        if seen is not None and seen.stamp == now and seen.last_number >= self._router.newest_number(oid):
            return
        handles = self._router.handles_up_to(oid, reading.last_number)
        has_other_rights = now is not None and self._has_other_rights(oid, seen, now)
        self._known.withdraw_other(oid, None if now is None or has_other_rights else now.stamp)
        if now is None:
            self._seen.pop(oid, None)
            self._end(handles, "the table was dropped")
            return
        known = {handle: reading.memberships.get(handle, {}).get(oid) for handle in handles}
        if handles:
            left = [handle for handle, each in known.items() if each not in (None, now.membership)]
            self._end(left, "the publication of the table changed")
            if has_other_rights or self._router.known_stamps(oid) != {now.stamp}:
                await self._compare_shapes(oid, handles, now)
            elif self._is_first_check:
                self._end_unfollowable(oid, handles)
        elif now.membership is not None and (self._is_first_check or seen is not None):
            await self._compare_shapes(oid, handles, now)
        # A shape without a membership yet is still being created: it is compared with the next reading, too.
        is_complete = None not in known.values()
        self._seen[oid] = _Seen(now, reading.last_number if is_complete else -1)

    def _has_other_rights(self, oid: int, seen: _Seen | None, now: RelationStamp) -> bool:
        """Whether the rights of our role differ from those of the last comparison, or of a shape's table."""
        before = {rights_of(known) for known in self._router.known_relations(oid)}
        if seen is not None:
            before.add(seen.stamp.rights)
        return bool(now.rights) and bool(before - {now.rights})

    def _end_unfollowable(self, oid: int, handles: set[str]) -> None:
        """End the shapes of an unchanged table, if the present settings do not allow it."""
        for known in self._router.known_relations(oid):
            obstacle = self._give_up(known)
            if obstacle is not None:
                self._end(handles, obstacle.reason)

    async def _compare_shapes(self, oid: int, handles: set[str], now: RelationStamp) -> None:
        before = {handle: self._router.known_generation(handle) for handle in handles}
        self._inspector.clean(oid)
        current = await self._inspector.relation_by_oid(oid)
        if current is None:
            self._end(handles, "the table was dropped")
            return
        if self._router.types.lacks(current):
            self._router.types.note(current, (await self._inspector.visibility()).insert_lsn)
        obstacle = self._give_up(current)
        if obstacle is not None:
            self._end(handles, obstacle.reason)
            return
        if self._has_stale_partitions(current):
            self._stale_roots.add(oid)
            self._end(handles, "a partition was attached or detached")
            self._reconnect("Postgres 14 does not apply changes of partitions to a running stream")
            return
        empty = [part.oid for part in await self._empty_parts(current)]
        # A creation may have continued on a newer state than this reading meanwhile.
        handles = {handle for handle in handles if self._router.known_generation(handle) == before[handle]}
        changed = self._router.find_changed(
            current, handles, is_empty=lambda part: part.oid in empty, is_listed=is_listed(now.membership)
        )
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for handle, reason in changed.items():
            by_reason[reason].append(handle)
        for reason, ended in by_reason.items():
            self._end(ended, reason)
        self._continue(current, handles.difference(changed))

    def stream_began(self) -> None:
        """A new stream sends the changes of partitions as they are now; shapes that were created while the
        previous one did not have to end. It may be another server's, with other transactions.
        """
        self._last_check = None
        for oid in self._stale_roots:
            self._end(self._router.handles_of(oid), "a partition was attached or detached")
        self._stale_roots.clear()

    def _has_stale_partitions(self, current: Relation) -> bool:
        """Whether the stream may go by partitions as they were: before Postgres 15 a walsender looks up once
        whether a table is published, and ATTACH and DETACH do not make it look again.
        """
        return current.server_version < _KNOWS_PARTITIONS and self._router.has_moved_parts(current)

    async def _empty_parts(self, current: Relation) -> list[Part]:
        attached = self._router.attached_parts(current)
        return [part for part in attached if not await self._inspector.has_rows(part.oid)]

    def _continue(self, current: Relation, handles: AbstractSet[str]) -> None:
        renewed = self._router.renew(current, handles)
        if renewed:
            self._status.renew_relations(renewed, [current])
        is_partial = any(part.replica_identity != _FULL for part in current.parts)
        has_generated = current.publishes_generated and any(one.is_generated for one in current.columns)
        if handles and (is_partial or has_generated):
            self._on_identity_lost(current.oid)

    def _end(self, handles: Collection[str], reason: str) -> None:
        if handles:
            self._cleaner.end(handles, reason)
