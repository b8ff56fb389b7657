"""Subset snapshots: a one-off query on a part of a shape, in addition to the shape's log.

This process sends the query to the database itself. It calls the owner to list the delivered transactions
that a snapshot may not see yet, with one call for all concurrent requests, and to invalidate a relation that
has changed. Invariant: a returned snapshot sees every transaction that the client has received, so its rows
are never older than what the client has. State: none but the connections of `source`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import orjson

from pgshapes.errors import GaveWay, RequestError, SchemaChanged
from pgshapes.limited_log import LimitedLog
from pgshapes.logs import get_logger
from pgshapes.model.lsn import Lsn
from pgshapes.model.offset import Offset
from pgshapes.model.quoting import display_name
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RawShape, ResolvedShape, Subset
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres import refusals
from pgshapes.postgres.subset import SubsetQuery, SubsetSelection, SubsetSource, SubsetVisibility
from pgshapes.shape_cache.definitions import find_changed
from pgshapes.tables.calls import Call, InvalidateRelation, ListUnseen, Reply, Unseen
from pgshapes.tables.link import OwnerLink
from pgshapes.waiting.batch import BatchQueue
from pgshapes.waiting.retake import retake
from pgshapes.where.clause import PreparedClause, prepare_subset_clause
from pgshapes.where.language.sort_order import parse_order_by

_failures: Final = LimitedLog(get_logger(__name__))

RETAKE_TIMEOUT_S: Final = 10.0
"""While a synchronous standby is unavailable a transaction may not become visible; then the request fails."""
# The same time as a request for the log waits for a restarted owner to catch up with its offset.
CATCH_UP_TIMEOUT_S: Final = 10.0
_CATCH_UP_POLL_S: Final = 0.1
_ATTEMPTS: Final = 3
"""How often a subset is tried while its table is being changed, or others wait for the table."""
OWNER_TIMEOUT_S: Final = 5.0
_MARKS: Final = 2**31

Resolve = Callable[[RawShape], Awaitable[ResolvedShape]]


class _Plan(NamedTuple):
    """A parsed subset that was not sent to Postgres yet."""

    selection: SubsetSelection
    clause: PreparedClause | None


class SubsetSnapshots:
    """The `Subsets` port of the HTTP API. `retakes` counts snapshots that were discarded.

    `resolve` checks a definition again, which publishes its relations.
    """

    def __init__(self, link: OwnerLink, source: SubsetSource, resolve: Resolve) -> None:
        self._link = link
        self._source = source
        self._resolve = resolve
        self._unseen: BatchQueue[None, Unseen] = BatchQueue(self._list_unseen)
        self._invalidations: BatchQueue[int, None] = BatchQueue(self._invalidate)
        self.retakes = 0

    async def subset(self, raw: RawShape, shape: ResolvedShape, subset: Subset, resume: Offset) -> bytes:
        """The response body. `resume` is the offset up to which the client has read the log.

        Raises RequestError with its errors under `subset`, SchemaChanged, NotNow, SourceError.
        """
        attempts_left = _ATTEMPTS
        while True:
            relation = await self._relation(raw, shape)
            attempts_left -= 1
            try:
                return await self._answer(_plan(raw, shape, relation, subset), resume.tx)
            except RequestError as refusal:
                # The table may have changed since it was read, and then have what is missing.
                if not attempts_left or not await self._has_changed(relation):
                    _log_text(refusal)
                    raise RequestError(errors={"subset": refusal.errors}) from refusal
            except GaveWay:
                if not attempts_left:
                    raise
            except SchemaChanged:
                if not attempts_left:
                    raise
                await self._invalidations.request(relation.oid)

    async def close(self) -> None:
        """Close the connections to the database."""
        await self._source.close()

    async def _relation(self, raw: RawShape, shape: ResolvedShape) -> Relation:
        """The table of a shape. If it has changed, the definition is checked again: the change may be one
        that does not matter. Raises SchemaChanged if the shape has another definition now.
        """
        relations = self._link.tables.relations
        changed = find_changed(shape, relations)
        if changed is not None:
            now = await self._resolve(raw)
            if now.comparable != shape.comparable:
                raise SchemaChanged(f'table "{changed.schema}"."{changed.name}" was changed')
        relation = relations.get((shape.definition.schema, shape.definition.table))
        if relation is None:
            raise SchemaChanged(f'table "{shape.definition.table}" was changed')
        return relation

    async def _has_changed(self, relation: Relation) -> bool:
        await self._invalidations.request(relation.oid)
        return self._link.tables.relations.get((relation.schema, relation.name)) != relation

    async def _answer(self, plan: _Plan, until: Lsn) -> bytes:
        # Listed before the snapshot is taken: transactions not listed are visible to an earlier snapshot.
        unseen = await self._delivered(until) if until else ()

        async def take() -> bytes | None:
            async with self._source.open(plan.selection.relation) as query:
                taken = await query.take()
                if all(taken.visibility.sees_xid(xid) for xid in unseen):
                    return await _read(query, plan, taken)
            return None

        body = await retake(take, RETAKE_TIMEOUT_S, self._count_retake)
        if body is None:
            raise refusals.not_yet_visible()
        return body

    def _count_retake(self) -> None:
        self.retakes += 1

    async def _delivered(self, until: Lsn) -> tuple[int, ...]:
        """The xids of delivered transactions up to `until` that no snapshot is known to have seen.

        After a restart of the owner this waits until it has delivered them again. If it has not in time, the
        offset is not one of this log, and the next request for the log is refused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CATCH_UP_TIMEOUT_S
        while True:
            unseen = await self._unseen.request(None)
            assert unseen is not None
            if unseen.delivered_lsn >= until or loop.time() >= deadline:
                return tuple(xid for xid, commit_lsn in unseen.transactions if commit_lsn <= until)
            await asyncio.sleep(_CATCH_UP_POLL_S)

    async def _list_unseen(self, _: object) -> Mapping[None, Unseen]:
        unseen = await self._ask_owner(ListUnseen())
        assert isinstance(unseen, Unseen)
        return {None: unseen}

    async def _invalidate(self, oids: tuple[int, ...]) -> Mapping[int, None]:
        for oid in oids:
            await self._ask_owner(InvalidateRelation(oid))
        return {}

    async def _ask_owner(self, call: Call) -> Reply:
        return await self._link.call(call, timeout_s=OWNER_TIMEOUT_S)


def _log_text(refusal: RequestError) -> None:
    """Log what Postgres said, which is not for clients."""
    said = refusal.details
    if "said" in said:
        cause = (said["schema"], said["table"], said["sqlstate"])
        _failures.note(
            "subset query failed",
            cause,
            table=display_name(said["schema"], said["table"]),
            error=said["said"],
            sqlstate=said["sqlstate"],
        )


def _plan(raw: RawShape, shape: ResolvedShape, relation: Relation, subset: Subset) -> _Plan:
    """Raises RequestError about `order_by`, `where` or `params`."""
    names = tuple(relation.column_index) if raw.queryable_columns is None else raw.queryable_columns
    order = () if subset.order_by is None else parse_order_by(subset.order_by, relation, queryable=names)
    clause = None
    if subset.where is not None:
        clause = prepare_subset_clause(subset.where, dict(subset.params), relation, queryable=names)
    definition = shape.definition
    selection = SubsetSelection(
        relation,
        definition.columns,
        shape_where=definition.where,
        order=order,
        limit=subset.limit,
        offset=subset.offset,
    )
    return _Plan(selection, clause)


async def _read(query: SubsetQuery, plan: _Plan, taken: SubsetVisibility) -> bytes:
    selection, clause = plan
    if clause is not None:
        confirmed = clause.confirm(await query.describe(clause.authority_sql))
        selection = selection._replace(subset_where=confirmed.sql)
    mark = random.randrange(_MARKS)
    start = b'{"metadata":%b,"data":[' % _metadata(taken.with_later_xmax(), mark)
    return b"".join([start, *await query.rows(selection, mark), b"]}"])


def _metadata(seen: SnapshotVisibility, mark: int) -> bytes:
    """Numbers as decimal texts, which clients read without losing digits."""
    return orjson.dumps(
        {
            "xmin": str(seen.xmin),
            "xmax": str(seen.xmax),
            "xip_list": [str(xid) for xid in seen.xip],
            "snapshot_mark": mark,
            "database_lsn": str(seen.insert_lsn),
        }
    )
