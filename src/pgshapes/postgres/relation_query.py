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

_PUBLISHES_GENERATED: Final = 180000

_DATABASE_LOCALE: Final = """
SELECT COALESCE(d.j ->> 'datlocprovider', 'c') AS provider,
       COALESCE(d.j ->> 'datlocale', d.j ->> 'daticulocale', d.j ->> 'datcollate') AS locale
  FROM (SELECT pg_catalog.to_jsonb(here) AS j FROM pg_catalog.pg_database here
         WHERE here.datname = pg_catalog.current_database()) d"""

_COLLATION: Final = """
SELECT CASE WHEN k.collprovider = 'd' THEN db.provider ELSE k.collprovider::text END AS provider,
       CASE WHEN k.collprovider = 'd' THEN db.locale
            ELSE COALESCE(own.j ->> 'colllocale', own.j ->> 'colliculocale',
                          own.j ->> 'collcollate') END AS locale,
       k.collisdeterministic AS is_deterministic
  FROM pg_catalog.pg_collation k, LATERAL (SELECT pg_catalog.to_jsonb(k) AS j) own
 WHERE k.oid = a.attcollation"""

_BASE_TYPE: Final = """
WITH RECURSIVE under(oid, typtype, typbasetype) AS (
  SELECT t.oid, t.typtype, t.typbasetype
  UNION ALL
  SELECT b.oid, b.typtype, b.typbasetype FROM under JOIN pg_catalog.pg_type b ON b.oid = under.typbasetype
)
SELECT under.oid::int8 AS oid FROM under WHERE t.typtype = 'd' AND under.typtype <> 'd'"""

_COLUMNS: Final = f"""
SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
         a.attname, a.atttypid::int8, t.typname, t.typtype, a.atttypmod, a.attndims, e.typname, a.attnotnull,
         pg_catalog.array_position(p.names, a.attname::text) - 1, a.attgenerated <> '',
         collation_of.locale, COALESCE(collation_of.is_deterministic, true),
         COALESCE(collation_of.provider, 'c'), COALESCE(base.oid, 0), a.attgenerated = 'v'
       ) ORDER BY a.attnum), '[]') AS columns
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' AND t.typtype = 'b'
  LEFT JOIN LATERAL ({_COLLATION}) collation_of ON true
  LEFT JOIN LATERAL ({_BASE_TYPE}) base ON true
 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"""

_KEY: Final = """
SELECT COALESCE(pg_catalog.array_agg(ka.attname::text ORDER BY k.place), '{}') AS names
  FROM pg_catalog.pg_index i,
       LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
  JOIN pg_catalog.pg_attribute ka ON ka.attnum = k.attnum
 WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts AND ka.attrelid = c.oid"""

_RELATION: Final = f"""
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, p.names, described.columns,
       pg_catalog.current_setting('server_version_num')::int, db.locale, db.provider
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
       ({_DATABASE_LOCALE}) db,
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
    oid, schema, name, kind, key, columns, server_version, locale, provider = row
    return Relation(
        oid=oid,
        schema=schema,
        name=name,
        kind=kind,
        columns=tuple(Column._make(fields) for fields in columns),
        primary_key=tuple(key),
        generation=generation,
        publishes_generated=server_version >= _PUBLISHES_GENERATED,
        server_version=server_version,
        database_collation=locale,
        database_collation_provider=provider,
    )
