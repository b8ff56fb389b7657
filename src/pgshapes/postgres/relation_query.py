"""How the catalogue is asked about relations, and how its answers become `Relation`s. Pure: SQL text and
parsing.

Not here: when to ask (`inspector`). Columns that differ between Postgres versions are read through
`to_jsonb`, so one text serves 14 to 18. Every function is named with its schema, so that the session's search
path changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pgshapes.model.relation import Column, Relation

_COLLATION: Final = """
SELECT CASE
         WHEN l.provider = 'i' THEN 'icu:' || l.locale
         WHEN l.provider = 'b' AND l.locale <> 'C' THEN 'builtin:' || l.locale
         WHEN l.locale = 'POSIX' THEN 'C'
         ELSE l.locale
       END AS name,
       k.collisdeterministic AS is_deterministic
  FROM pg_catalog.pg_collation k,
       LATERAL (SELECT pg_catalog.to_jsonb(k) AS j) own,
       LATERAL (SELECT pg_catalog.to_jsonb(d) AS j FROM pg_catalog.pg_database d
                 WHERE d.datname = pg_catalog.current_database()) db,
       LATERAL (SELECT CASE WHEN k.collprovider = 'd' THEN COALESCE(db.j ->> 'datlocprovider', 'c')
                            ELSE k.collprovider::text END AS provider,
                       CASE WHEN k.collprovider = 'd'
                            THEN COALESCE(db.j ->> 'datlocale', db.j ->> 'daticulocale',
                                          db.j ->> 'datcollate')
                            ELSE COALESCE(own.j ->> 'colllocale', own.j ->> 'colliculocale',
                                          own.j ->> 'collcollate') END AS locale) l
 WHERE k.oid = a.attcollation"""

_COLUMNS: Final = f"""
SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
         a.attname, a.atttypid::int8, t.typname, t.typtype, a.atttypmod, a.attndims, e.typname, a.attnotnull,
         pg_catalog.array_position(p.names, a.attname::text) - 1, a.attgenerated,
         collation_of.name, collation_of.is_deterministic
       ) ORDER BY a.attnum), '[]') AS columns
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' AND t.typtype = 'b'
  LEFT JOIN LATERAL ({_COLLATION}) collation_of ON true
 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"""

_KEY: Final = """
SELECT COALESCE(pg_catalog.array_agg(ka.attname::text ORDER BY k.place), '{}') AS names
  FROM pg_catalog.pg_index i,
       LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
  JOIN pg_catalog.pg_attribute ka ON ka.attnum = k.attnum
 WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts AND ka.attrelid = c.oid"""

_RELATION: Final = f"""
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, p.names, described.columns,
       pg_catalog.current_setting('server_version_num')::int >= 180000
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
       LATERAL ({_KEY}) p,
       LATERAL ({_COLUMNS}) described
 WHERE c.relkind IN ('r', 'p')"""

RELATION_BY_NAME: Final = _RELATION + " AND n.nspname = %s AND c.relname = %s"
"""Arguments: schema, name. At most one row, for `relation_from_row`. Ordinary and partitioned tables only."""

RELATION_BY_OID: Final = _RELATION + " AND c.oid = %s::int8::oid"

LEAVES: Final = """
WITH RECURSIVE tree(oid) AS (
  SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = %s::int8::oid
  UNION
  SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
)
SELECT c.oid::int8
  FROM tree JOIN pg_catalog.pg_class c USING (oid)
 WHERE c.relkind = 'r' AND c.relispartition
 ORDER BY c.oid"""
"""Argument: the oid of a partitioned table. The oids of its leaves, whatever the depth.

A partition that is being detached concurrently counts: its rows may still be in the table for open snapshots.
"""


ANCESTORS: Final = """
WITH RECURSIVE above(oid, distance) AS (
  SELECT i.inhparent, 1 FROM pg_catalog.pg_inherits i WHERE i.inhrelid = %s::int8::oid
  UNION
  SELECT i.inhparent, above.distance + 1
    FROM pg_catalog.pg_inherits i JOIN above ON i.inhrelid = above.oid
)
SELECT c.oid::int8
  FROM above JOIN pg_catalog.pg_class c USING (oid)
 WHERE c.relkind = 'p'
 ORDER BY above.distance"""
"""Argument: the oid of a partition. The oids of the partitioned tables above it, the nearest first."""


def relation_from_row(row: Sequence[Any], generation: int) -> Relation:
    """The relation that a row of `RELATION_BY_NAME` or `RELATION_BY_OID` describes."""
    oid, schema, name, kind, key, columns, publishes_generated = row
    return Relation(
        oid=oid,
        schema=schema,
        name=name,
        kind=kind,
        columns=tuple(_column(*fields) for fields in columns),
        primary_key=tuple(key),
        generation=generation,
        publishes_generated=publishes_generated,
    )


def _column(
    name: str,
    type_oid: int,
    type_name: str,
    type_kind: str,
    typmod: int,
    dims: int,
    element_type_name: str | None,
    not_null: bool,
    pk_index: int | None,
    generated: str,
    collation: str | None,
    is_deterministic: bool | None,
) -> Column:
    return Column(
        name=name,
        type_oid=type_oid,
        type_name=type_name,
        type_kind=type_kind,
        typmod=typmod,
        dims=dims,
        element_type_name=element_type_name,
        not_null=not_null,
        pk_index=pk_index,
        is_generated=generated != "",
        collation=collation,
        is_deterministic_collation=is_deterministic is not False,
    )
