"""Reads relations and how they are published, and finds the obstacles to following them, for `doctor`.

Whether a table can be followed is decided by the functions that the server uses, `followable.find_obstacle`
and `publication_rules.find_publication_obstacle`, over the same facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pgshapes.doctor.facts import Needs
from pgshapes.doctor.table_facts import TableFacts
from pgshapes.model.followable import Obstacle, find_obstacle
from pgshapes.model.relation import Relation
from pgshapes.postgres.connection import Connection
from pgshapes.postgres.publication_rules import find_publication_obstacle
from pgshapes.postgres.publication_sql import TableState, state_from_row, table_states
from pgshapes.postgres.relation_sql import RELATIONS_BY_OID, relation_from_row

_BATCH: Final = 100
"""Relations that are read at once; about 10 ms of work on their rows, which holds up the event loop."""

_NAMED: Final = """
SELECT c.oid::int8
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE (n.nspname, c.relname) IN (
         SELECT w.schema, w.name FROM unnest(%s::text[], %s::text[]) AS w(schema, name))"""
_ALL: Final = """
SELECT c.oid::int8
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname"""
"""Without partitions, which belong to their root, and without the relations of extensions."""


async def read_tables(db: Connection, needs: Needs) -> list[TableFacts]:
    """The relations that are named in `needs`, or all that users made. Raises psycopg.Error."""
    if needs.tables:
        cursor = await db.execute(_NAMED.encode(), tuple(map(list, zip(*needs.tables, strict=True))))
    else:
        cursor = await db.execute(_ALL.encode())
    oids = [row[0] for row in await cursor.fetchall()]
    found = []
    for start in range(0, len(oids), _BATCH):
        found += await _read_batch(db, oids[start : start + _BATCH], needs)
    return found


async def _read_batch(db: Connection, oids: list[int], needs: Needs) -> list[TableFacts]:
    relations = await (await db.execute(RELATIONS_BY_OID.encode(), (oids,))).fetchall()
    sql = table_states(db.info.server_version)
    rows = await (await db.execute(sql.encode(), (oids, needs.publication))).fetchall()
    states = {state.relation_oid: state for state in map(state_from_row, rows)}
    found = [relation_from_row(row) for row in relations]
    return [_table(relation, states[relation.oid], needs) for relation in found]


def _table(relation: Relation, state: TableState, needs: Needs) -> TableFacts:
    return TableFacts(
        schema=relation.schema,
        name=relation.name,
        kind=relation.kind,
        key=relation.key_columns,
        is_published=state.membership is not None,
        is_full=not state.not_full,
        obstacles=tuple(_obstacles(relation, state, needs)),
    )


def _obstacles(relation: Relation, state: TableState, needs: Needs) -> Iterator[Obstacle]:
    own = find_obstacle(relation, allows_no_key=needs.allows_no_key)
    if own is not None:
        yield own
    if relation.kind not in ("r", "p"):
        return
    published = find_publication_obstacle(
        _as_used(state, needs), needs.publication, is_manual=needs.is_manual
    )
    if published is not None:
        yield published


def _as_used(state: TableState, needs: Needs) -> TableState:
    """The state with a publication that works; `doctor.rights` checks the publication itself."""
    if state.has_publication or needs.is_manual:
        return state._replace(publishes_all_operations=True)
    return state._replace(publishes_all_operations=True, publishes_generated=True, is_publication_ours=True)
