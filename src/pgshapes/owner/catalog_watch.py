"""Compares the tables in use with the system catalogs, and ends the shapes that a change of them alters.

The stream does not report most DDL: it announces a table again with the first change after any DDL on it or
on the publication, and reports nothing while nobody writes. So the catalogs are read at every announcement,
before any change that follows it is routed, and at intervals. One query reads the stamps of all tables; only
a table whose stamp has changed is read whole and compared.

Invariant: a reading is compared only with shapes that were registered before it began, and readings do not
overlap, so no shape is compared with an older state than one that it was found to continue on. State: the
last stamp of each table, in the replicator's loop.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

import structlog

from pgshapes.errors import PgShapesError
from pgshapes.model.followable import Obstacle
from pgshapes.model.relation import Part, Relation
from pgshapes.owner.removal import ShapeCleaner
from pgshapes.owner.resolver import KnownRelations
from pgshapes.owner.shape_status import ShapeStatus
from pgshapes.postgres.relation_sql import RelationStamp
from pgshapes.routing.router import Router

_log = structlog.get_logger(__name__)

WATCH_INTERVAL_S: Final = 2.0
_SHARE: Final = 20
"""With very many tables the interval is this many times as long as a look takes."""
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

    async def relation_by_oid(self, oid: int) -> Relation | None:
        """The relation, or None if it does not exist."""

    async def has_rows(self, oid: int) -> bool:
        """Whether a table has rows, as far as that can be known without waiting."""

    def clean(self, oid: int | None) -> None:
        """Drop what is cached about a relation."""


class CatalogWatch:
    """The comparisons. `memberships` has, by handle, how the relations of a shape were published when it was
    created. `on_identity_lost` is called with tables that are not, or not in all parts, REPLICA IDENTITY
    FULL, or that have generated columns, which the publication must have, too.

    `give_up` returns why a table cannot be followed any more, once it has done what that demands. Published
    tables are looked at even if they have no shapes.
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
        self._seen: dict[int, RelationStamp] = {}
        self._is_first_look = True
        """Settings may have changed while no watch ran, and tables without shapes."""
        self._stale_roots: set[int] = set()
        """Partitioned tables of whose partitions the stream may send too little or too much."""
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Look at all tables in use at intervals, until cancelled."""
        is_failing, loop = False, asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                await self.look()
                is_failing = False
            except PgShapesError as error:
                if not is_failing:
                    _log.warning("system catalogs could not be read; retrying", error=error.message)
                is_failing = True
            await asyncio.sleep(max(WATCH_INTERVAL_S, _SHARE * (loop.time() - began_s)))

    async def look(self, oids: Iterable[int] | None = None) -> None:
        """Compare these tables, by default all that are in use, with the system catalogs as they are now.

        When it returns, shapes that the changes alter are retired. Raises NotNow, SourceError.
        """
        async with self._turn:
            last_number, memberships = self._router.last_number, dict(self._memberships)
            used = self._router.table_oids() | self._known.oids() if oids is None else set(oids)
            stamps = await self._inspector.stamps(used, self._publication, and_published=oids is None)
            used |= stamps.keys()
            if stamps and not any(one.has_publication for one in stamps.values()):
                self._reconnect(f'publication "{self._publication}" was dropped')
            for oid in used:
                await self._compare(oid, last_number, stamps.get(oid), memberships)
            if oids is None:
                self._is_first_look = False
                self._seen = {oid: seen for oid, seen in self._seen.items() if oid in used}

    async def _compare(
        self,
        oid: int,
        last_number: int,
        now: RelationStamp | None,
        memberships: Mapping[str, Mapping[int, str]],
    ) -> None:
        """Compare a table with its shapes up to this number, and their memberships before the reading."""
        if now is not None and now == self._seen.get(oid):
            return
        handles = self._router.handles_up_to(oid, last_number)
        seen = self._seen.get(oid)
        has_other_rights = seen is not None and now is not None and seen.rights != now.rights
        self._known.withdraw_other(oid, None if now is None or has_other_rights else now.stamp)
        if now is None:
            self._seen.pop(oid, None)
            self._end(handles, "the table was dropped")
            return
        if handles:
            known = {handle: memberships.get(handle, {}).get(oid) for handle in handles}
            left = [handle for handle, each in known.items() if each not in (None, now.membership)]
            self._end(left, "the publication of the table changed")
            if has_other_rights or self._router.known_stamps(oid) != {now.stamp}:
                await self._compare_shapes(oid, handles)
            elif self._is_first_look:
                self._end_unfollowable(oid, handles)
        elif now.membership is not None and (self._is_first_look or seen is not None):
            await self._compare_shapes(oid, handles)
        self._seen[oid] = now

    def _end_unfollowable(self, oid: int, handles: set[str]) -> None:
        """End the shapes of an unchanged table, if the present settings do not allow it."""
        for known in self._router.known_relations(oid):
            obstacle = self._give_up(known)
            if obstacle is not None:
                self._end(handles, obstacle.reason)

    async def _compare_shapes(self, oid: int, handles: set[str]) -> None:
        self._inspector.clean(oid)
        current = await self._inspector.relation_by_oid(oid)
        if current is None:
            self._end(handles, "the table was dropped")
            return
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
        changed = self._router.find_changed(current, handles, is_empty=lambda part: part.oid in empty)
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for handle, reason in changed.items():
            by_reason[reason].append(handle)
        for reason, ended in by_reason.items():
            self._end(ended, reason)
        self._continue(current, handles.difference(changed))

    def stream_began(self) -> None:
        """A new stream sends the changes of partitions as they are now; shapes that were created while the
        previous one did not have to end.
        """
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
        for before in self._router.renew(current, handles):
            self._status.renew_relations([before], [current])
        is_partial = any(part.replica_identity != _FULL for part in current.parts)
        has_generated = current.publishes_generated and any(one.is_generated for one in current.columns)
        if handles and (is_partial or has_generated):
            self._on_identity_lost(current.oid)

    def _end(self, handles: Collection[str], reason: str) -> None:
        if handles:
            self._cleaner.end(handles, reason)
