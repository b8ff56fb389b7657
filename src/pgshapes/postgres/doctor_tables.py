"""Reads what `doctor` checks about relations: kind, rights, key, columns, membership, parts.

One query for all relations that users made, or for those that are named. Not here: what follows from it
(`doctor.tables`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pgshapes.doctor.facts import Needs
from pgshapes.doctor.table_facts import PartFacts, TableFacts, VirtualColumn
from pgshapes.postgres.connection import Connection
from pgshapes.postgres.doctor_facts import has_schema_publications

_IS_SYSTEM: Final = "(n.nspname IN ('pg_catalog', 'information_schema') OR n.nspname LIKE 'pg\\_toast%%')"

_KEY: Final = """
SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place) AS columns
  FROM pg_catalog.pg_index i,
       LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
 WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
   AND k.place <= i.indnkeyatts
 GROUP BY i.indexrelid, i.indisprimary
HAVING pg_catalog.bool_and(COALESCE(a.attnotnull, false))
 ORDER BY i.indisprimary DESC, i.indexrelid
 LIMIT 1"""
"""An index on an expression has the attribute 0, which is no column."""

_DEFERRABLE_KEY: Final = """
SELECT pg_catalog.json_build_array(
         o.conname, pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(o.oid), ' DEFERRABLE.*$', ''))
  FROM pg_catalog.pg_constraint o
 WHERE o.conrelid = c.oid AND o.contype = 'p' AND o.condeferrable"""

_GENERATED: Final = """
SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
         a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
         pg_catalog.pg_get_expr(d.adbin, d.adrelid)
       ) ORDER BY a.attnum) FILTER (WHERE a.attgenerated = 'v') AS virtual,
       COALESCE(pg_catalog.bool_or(a.attgenerated = 's'), false) AS has_stored
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped"""

_PARTS: Final = """
SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
         pn.nspname, part.relname, part.relkind, part.relpersistence,
         pg_catalog.pg_has_role(part.relowner, 'USAGE'), part.relreplident = 'f') ORDER BY part.oid) AS parts
  FROM (WITH RECURSIVE tree(oid) AS (
          SELECT c.oid
          UNION
          SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
           WHERE c.relkind = 'p'
        ) SELECT oid FROM tree) members
  JOIN pg_catalog.pg_class part ON part.oid = members.oid
  JOIN pg_catalog.pg_namespace pn ON pn.oid = part.relnamespace
 WHERE part.relkind IN ('r', 'f') OR part.oid = c.oid"""

_IN_SCHEMA: Final = """
OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = n.oid)"""

_TABLES: Final = f"""
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, {_IS_SYSTEM},
       c.relispartition, pg_catalog.pg_get_userbyid(c.relowner)::text, COALESCE(o.rolsuper, false),
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       pg_catalog.has_table_privilege(c.oid, 'SELECT'),
       pg_catalog.has_any_column_privilege(c.oid, 'SELECT'),
       c.relrowsecurity AND pg_catalog.row_security_active(c.oid),
       EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class child ON child.oid = i.inhrelid
                WHERE i.inhparent = c.oid AND NOT child.relispartition),
       COALESCE((SELECT k.columns FROM ({_KEY}) k), ARRAY[]::text[]),
       ({_DEFERRABLE_KEY}), g.virtual, g.has_stored,
       COALESCE(p.puballtables, false) OR m.oid IS NOT NULL {{in_schema}},
       COALESCE(pg_catalog.to_jsonb(m) ->> 'prqual', pg_catalog.to_jsonb(m) ->> 'prattrs') IS NOT NULL,
       parts.parts
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
  LEFT JOIN pg_catalog.pg_publication p ON p.pubname = %(publication)s
  LEFT JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = c.oid,
       LATERAL ({_GENERATED}) g,
       LATERAL ({_PARTS}) parts
 WHERE {{which}}
 ORDER BY n.nspname, c.relname"""

_NAMED: Final = """(n.nspname, c.relname) IN (
         SELECT w.schema, w.name FROM unnest(%(schemas)s::text[], %(names)s::text[])
                                      AS w(schema, name))"""
_ALL: Final = f"""c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND NOT {_IS_SYSTEM}
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                      AND d.deptype = 'e')"""
"""Without partitions, which belong to their root, and without the relations of extensions."""


async def read_tables(db: Connection, needs: Needs) -> list[TableFacts]:
    """The relations that are named in `needs`, or all that users made. Raises psycopg.Error."""
    in_schema = _IN_SCHEMA if has_schema_publications(db.info.server_version) else ""
    sql = _TABLES.format(in_schema=in_schema, which=_NAMED if needs.tables else _ALL)
    arguments = {
        "publication": needs.publication,
        "schemas": [schema for schema, _ in needs.tables],
        "names": [name for _, name in needs.tables],
    }
    return [_table(row) for row in await (await db.execute(sql.encode(), arguments)).fetchall()]


def _table(row: Sequence[Any]) -> TableFacts:
    *fields, key, deferrable, virtual, has_stored, is_published, is_partly, parts = row
    return TableFacts._make(
        [
            *fields,
            tuple(key),
            None if deferrable is None else (deferrable[0], deferrable[1]),
            tuple(VirtualColumn(*column) for column in virtual or ()),
            has_stored,
            is_published,
            is_partly,
            tuple(PartFacts(*part) for part in parts or ()),
        ]
    )
