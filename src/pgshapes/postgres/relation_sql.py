"""The SQL that reads relations and their stamps from the system catalogs. Pure.

A *stamp* has the versions (`xmin`) of all catalog rows that decide how the rows of a table are found, read,
rendered and identified. A relation is read in one statement with its stamp; while the stamp is the same, so
is the relation. A stamp is cheap to read: it needs no expressions and no JSON.

Columns that differ between Postgres versions are read with `to_jsonb`, so that one query works on 14 to 18.
Functions are qualified with their schema, so the search path has no effect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from pgshapes.model.quoting import quote_literal
from pgshapes.model.relation import Column, Part, Relation

_PUBLISHES_GENERATED: Final = 180000
_PUBLISHES_SCHEMAS: Final = 150000
_FIRST_USER_OID: Final = 16384
"""Objects with smaller oids are made by initdb and cannot be altered."""


# --- types whose text can change without a change of the table


def _names(catalog: str, prefix: str, signature: str = "''") -> str:
    """A digest of the names of all objects of a catalog, temporary ones excluded."""
    return f"""(SELECT pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws('.', s.nspname,
                       o.{prefix}name, {signature}), o.oid::int8))
  FROM pg_catalog.{catalog} o JOIN pg_catalog.pg_namespace s ON s.oid = o.{prefix}namespace
 WHERE s.nspname !~ '^pg_(temp|toast)')"""


_ROLE_NAMES: Final = """(SELECT pg_catalog.sum(pg_catalog.hashtextextended(o.rolname::text, o.oid::int8))
  FROM pg_catalog.pg_roles o)"""
_SCHEMA_NAMES: Final = """(SELECT pg_catalog.sum(pg_catalog.hashtextextended(o.nspname::text, o.oid::int8))
  FROM pg_catalog.pg_namespace o WHERE o.nspname !~ '^pg_(temp|toast)')"""

_NAMES: Final = {
    24: _names("pg_proc", "pro"),
    2202: _names("pg_proc", "pro", "o.proargtypes"),
    2203: _names("pg_operator", "opr"),
    2204: _names("pg_operator", "opr", "o.oprleft, o.oprright"),
    2205: _names("pg_class", "rel"),
    2206: _names("pg_type", "typ"),
    3734: _names("pg_ts_config", "cfg"),
    3769: _names("pg_ts_dict", "dict"),
    4089: _SCHEMA_NAMES,
    4096: _ROLE_NAMES,
    4191: _names("pg_collation", "coll"),
}
"""Types whose values are shown as names of other objects, by oid (manual: Object Identifier Types)."""

_NAME_ARRAYS: Final = (1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192)


def _oids(oids: Sequence[int]) -> str:
    return ", ".join(map(str, oids))


_IS_ALTERABLE: Final = f"({{0}} >= {_FIRST_USER_OID} OR {{0}} IN ({_oids((*_NAMES, *_NAME_ARRAYS))}))"
_NAMES_CASE: Final = (
    "CASE t.oid " + " ".join(f"WHEN {oid} THEN {digest}" for oid, digest in _NAMES.items()) + " END"
)


def _used_types(first: str) -> str:
    """A recursive query `used(oid)`: alterable types of `first`, and those that they consist of."""
    return f"""WITH RECURSIVE used(oid) AS (
  {first}
  UNION
  SELECT deeper.oid
    FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid,
         LATERAL (SELECT t.typbasetype UNION ALL SELECT t.typelem
                  UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r
                             WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid
                  UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
                             WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
         ) deeper(oid)
   WHERE {_IS_ALTERABLE.format("deeper.oid")}
)"""


_TYPE_DETAILS: Final = f"""
{_used_types(f"SELECT a.atttypid WHERE {_IS_ALTERABLE.format('a.atttypid')}")}
SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(t.oid::int8,
         CASE WHEN t.oid < {_FIRST_USER_OID} AND t.typelem = 0 THEN 'n' ELSE t.typtype::text END,
         CASE WHEN t.typtype = 'e' THEN
                (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(e.oid::int8,
                          pg_catalog.concat_ws(' ', e.enumlabel, e.xmin)) ORDER BY e.oid)
                   FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
              WHEN t.typtype = 'c' THEN
                (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(f.attnum,
                          pg_catalog.concat_ws(' ', f.attname, f.atttypid, f.atttypmod, f.xmin))
                          ORDER BY f.attnum)
                   FROM pg_catalog.pg_attribute f
                  WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped)
              WHEN t.typtype = 'd' THEN
                pg_catalog.json_build_array(pg_catalog.json_build_array(0,
                  pg_catalog.concat_ws(' ', t.typbasetype, t.typtypmod)))
              WHEN t.oid < {_FIRST_USER_OID} AND t.typelem = 0 THEN
                pg_catalog.json_build_array(pg_catalog.json_build_array(0, ({_NAMES_CASE})::text))
              ELSE '[]' END) ORDER BY t.oid), '[]')
  FROM used JOIN pg_catalog.pg_type t USING (oid)"""

_TYPE_VERSIONS: Final = f"""
{
    _used_types(
        "SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND "
        + _IS_ALTERABLE.format("a.atttypid")
    )
}
SELECT pg_catalog.sum(t.xmin::text::int8
       + COALESCE((SELECT pg_catalog.sum(e.xmin::text::int8) FROM pg_catalog.pg_enum e
                    WHERE e.enumtypid = t.oid), 0)
       + COALESCE((SELECT pg_catalog.sum(f.xmin::text::int8) FROM pg_catalog.pg_attribute f
                    WHERE t.typrelid <> 0 AND f.attrelid = t.typrelid AND f.attnum > 0), 0)
       + COALESCE({_NAMES_CASE}, 0))
  FROM used JOIN pg_catalog.pg_type t USING (oid)"""


# --- stamps


class RelationStamp(NamedTuple):
    """The version of a relation, and of the way in which it is published (None if it is not)."""

    stamp: str
    membership: str | None
    has_publication: bool = True
    rights: str = ""
    """What our role may do with it; the version does not change with the memberships of roles."""


def _versions(catalog: str, condition: str) -> str:
    """The number of matching rows and the sum of their versions, which each update makes larger."""
    return f"""(SELECT pg_catalog.concat(pg_catalog.count(*), '+', pg_catalog.sum(v.xmin::text::int8))
   FROM pg_catalog.{catalog} v WHERE {condition})"""


_INHERITING: Final = """
WITH RECURSIVE tree(oid, link) AS (
  SELECT i.inhrelid, i.xmin FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid
  UNION
  SELECT i.inhrelid, i.xmin FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
)
SELECT {0} FROM tree JOIN pg_catalog.pg_class m USING (oid)"""
"""The tables that inherit from `c` at any depth, partitions included."""

_STAMP: Final = f"""pg_catalog.concat_ws('.', n.xmin, c.xmin, c.relfilenode,
  {_versions("pg_attribute", "v.attrelid = c.oid AND v.attnum > 0")},
  {_versions("pg_index", "v.indrelid = c.oid")},
  {_versions("pg_attrdef", "v.adrelid = c.oid")},
  ({_TYPE_VERSIONS}),
  CASE WHEN c.relhassubclass THEN ({
    _INHERITING.format(
        "pg_catalog.concat(pg_catalog.count(*), '+', pg_catalog.sum("
        "tree.link::text::int8 + m.xmin::text::int8 + m.relfilenode::int8))"
    )
}) END)"""


_RIGHTS: Final = """pg_catalog.concat(pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
  pg_catalog.has_table_privilege(c.oid, 'SELECT'), pg_catalog.has_any_column_privilege(c.oid, 'SELECT'),
  pg_catalog.row_security_active(c.oid))"""


_NARROWED_PARTS: Final = (
    _INHERITING.format("pg_catalog.concat('narrowed.', pg_catalog.sum(r.oid::int8 + r.xmin::text::int8))")
    + """ JOIN pg_catalog.pg_publication_rel r ON r.prrelid = m.oid AND r.prpubid = p.oid
 WHERE m.relkind = 'r' AND COALESCE(pg_catalog.to_jsonb(r) ->> 'prqual', pg_catalog.to_jsonb(r) ->> 'prattrs')
       IS NOT NULL HAVING pg_catalog.count(*) > 0"""
)


def rights_of(relation: Relation) -> str:
    """The rights in a stamp that is as old as the relation."""
    facts = (
        relation.is_schema_usable,
        relation.is_readable,
        relation.is_readable or any(column.is_readable for column in relation.columns),
        relation.is_row_security_active,
    )
    return "".join("t" if fact else "f" for fact in facts)


def membership(server_version: int) -> str:
    """An expression for how the relation `c` is a member of the publication `p`, itself or with its schema.

    It is another one after the table was removed and added, or the publication was altered; NULL for a table
    that is not published. Changes of a partition pass the row filter and the column list with which it is
    listed itself, so such entries are part of the membership of its root.
    """
    schema = "NULL::text"
    if server_version >= _PUBLISHES_SCHEMAS:
        schema = """(SELECT pg_catalog.concat_ws('.', s.oid, s.xmin)
   FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)"""
    table = """(SELECT pg_catalog.concat_ws('.', 'table', r.oid, r.xmin) FROM pg_catalog.pg_publication_rel r
   WHERE r.prpubid = p.oid AND r.prrelid = c.oid)"""
    return f"""(SELECT pg_catalog.concat_ws('.', p.oid, p.xmin, own.entry, own.schema_entry,
         CASE WHEN c.relkind = 'p' THEN ({_NARROWED_PARTS}) END)
  FROM (SELECT {table} AS entry, {schema} AS schema_entry) own
 WHERE p.puballtables OR own.entry IS NOT NULL OR own.schema_entry IS NOT NULL)"""


def is_listed(membership: str | None) -> bool:
    """Whether the publication names the table itself, rather than its schema or all tables."""
    return membership is not None and ".table." in membership


def stamps(server_version: int) -> str:
    """The statement that reads the stamps and memberships of relations.

    Arguments: oids, whether to add the tables that are listed in the publication, its name twice. One row
    (oid, stamp, membership, whether there is the publication, rights) for each that exists.
    """
    return f"""
SELECT c.oid::int8, {_STAMP}, {membership(server_version)}, p.oid IS NOT NULL, {_RIGHTS}
  FROM (SELECT pg_catalog.unnest(%s::int8[])::oid
        UNION
        SELECT r.prrelid FROM pg_catalog.pg_publication_rel r
          JOIN pg_catalog.pg_publication own ON own.oid = r.prpubid
         WHERE %s AND own.pubname = %s) wanted(oid)
  JOIN pg_catalog.pg_class c ON c.oid = wanted.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_publication p ON p.pubname = %s"""


def stamp_of(oid: int, publication: str, server_version: int) -> str:
    """The statement, without parameters, for the (stamp, membership) of one relation."""
    return f"""SELECT {_STAMP}, {membership(server_version)}
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_publication p ON p.pubname = {quote_literal(publication)}
 WHERE c.oid = {oid:d}"""


# --- relations

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
         COALESCE(collation_of.provider, 'c'), COALESCE(base.oid, 0), a.attgenerated = 'v',
         a.attnum, a.xmin::text::int8,
         (SELECT pg_catalog.concat_ws('.', d.oid, d.xmin)
            FROM pg_catalog.pg_attrdef d
           WHERE a.attgenerated <> '' AND d.adrelid = c.oid AND d.adnum = a.attnum),
         ({_TYPE_DETAILS}),
         pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
       ) ORDER BY a.attnum), '[]')::text AS columns
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' AND t.typtype = 'b'
  LEFT JOIN LATERAL ({_COLLATION}) collation_of ON true
  LEFT JOIN LATERAL ({_BASE_TYPE}) base ON true
 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"""

_KEY: Final = """
SELECT COALESCE(
  (SELECT pg_catalog.array_agg(ka.attname::text ORDER BY k.place)
     FROM (SELECT i.indkey, i.indnkeyatts
             FROM pg_catalog.pg_index i
            WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
              AND i.indpred IS NULL
              AND NOT EXISTS (
                SELECT FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
                  LEFT JOIN pg_catalog.pg_attribute ka ON ka.attrelid = c.oid AND ka.attnum = k.attnum
                 WHERE k.place <= i.indnkeyatts AND NOT COALESCE(ka.attnotnull AND NOT EXISTS (
                   SELECT FROM pg_catalog.pg_constraint nn
                    WHERE nn.conrelid = c.oid AND nn.contype = 'n' AND NOT nn.convalidated
                      AND nn.conkey = ARRAY[ka.attnum]), false))
            ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, i.indexrelid
            LIMIT 1) best,
          LATERAL pg_catalog.unnest(best.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
     JOIN pg_catalog.pg_attribute ka ON ka.attnum = k.attnum
    WHERE k.place <= best.indnkeyatts AND ka.attrelid = c.oid), '{}') AS names"""
"""The columns of the primary key, else of another unique index: neither deferrable nor partial, without
expressions, and on columns that are certainly NOT NULL (since Postgres 18 the constraint may be NOT VALID).
"""

_IS_CREATED_ATTACHED: Final = """EXISTS (
  SELECT FROM pg_catalog.pg_attribute made, pg_catalog.pg_attribute own
   WHERE made.attrelid = i.inhrelid AND made.attnum < 0 AND made.xmin = i.xmin
     AND own.attrelid = i.inhrelid AND own.attnum > 0 AND own.xmin = made.xmin AND own.cmin = made.cmin)"""
"""A table that is created as a partition gets its columns and its row in `pg_inherits` in one transaction,
and at least one of its columns is as it was made by the command that made its system columns. ATTACH
PARTITION updates all columns later.
"""

_NAMES_OF: Final = """SELECT pg_catalog.array_agg(k.attname::text ORDER BY k.attnum)
   FROM pg_catalog.pg_attribute k WHERE k.attrelid = {0} AND k.attnum > 0 AND NOT k.attisdropped"""

_PARTS: Final = f"""
SELECT CASE WHEN c.relkind = 'p' THEN COALESCE((
  WITH RECURSIVE tree(oid, attachment, is_created_attached) AS (
    SELECT i.inhrelid, i.xmin::text, {_IS_CREATED_ATTACHED}
      FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid
    UNION
    SELECT i.inhrelid, pg_catalog.concat_ws('.', tree.attachment, tree.oid, i.xmin),
           tree.is_created_attached AND {_IS_CREATED_ATTACHED}
      FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
  )
  SELECT pg_catalog.json_agg(pg_catalog.json_build_array(m.oid::int8, tree.attachment, m.relfilenode::int8,
           tree.is_created_attached, m.relreplident,
           (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(g.attname, d.oid::int8)
                                                ORDER BY g.attnum), '[]')
              FROM pg_catalog.pg_attribute g
              JOIN pg_catalog.pg_attrdef d ON d.adrelid = g.attrelid AND d.adnum = g.attnum
             WHERE g.attrelid = m.oid AND g.attgenerated <> ''),
           COALESCE(pg_catalog.array_to_json(NULLIF(({_NAMES_OF.format("m.oid")}), root.names)), '[]'))
           ORDER BY m.oid)
    FROM tree JOIN pg_catalog.pg_class m USING (oid), ({_NAMES_OF.format("c.oid")}) root(names)
   WHERE m.relkind = 'r' AND m.relispartition), '[]')
       ELSE pg_catalog.json_build_array(pg_catalog.json_build_array(
              c.oid::int8, '', c.relfilenode::int8, true, c.relreplident)) END::text AS parts"""
"""Includes a partition that is being detached concurrently: open snapshots may still see its rows in the
table. A leaf is attached by all rows of `pg_inherits` between it and the root.
"""

_UNLOGGED_PARTS: Final = f"""
SELECT CASE WHEN c.relkind = 'p' THEN ({
    _INHERITING.format(
        "pg_catalog.array_agg(pg_catalog.format('%%I.%%I', s.nspname, m.relname) ORDER BY m.oid)"
    )
} JOIN pg_catalog.pg_namespace s ON s.oid = m.relnamespace
   WHERE m.relkind = 'r' AND m.relpersistence <> 'p') END"""

_RELATION: Final = f"""
SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, p.names, described.columns,
       pg_catalog.current_setting('server_version_num')::int, db.locale, db.provider, {_STAMP}, stored.parts,
       c.relpersistence::text,
       EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid AND c.relkind <> 'p'),
       pg_catalog.row_security_active(c.oid),
       EXISTS (SELECT FROM pg_catalog.pg_index i
                WHERE i.indrelid = c.oid AND i.indisprimary AND NOT i.indimmediate),
       EXISTS (SELECT FROM pg_catalog.pg_index i
                WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate),
       ({_UNLOGGED_PARTS}),
       pg_catalog.has_table_privilege(c.oid, 'SELECT'),
       pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       pg_catalog.quote_ident(CURRENT_USER), c.xmin::text::int8
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
       ({_DATABASE_LOCALE}) db,
       LATERAL ({_KEY}) p,
       LATERAL ({_COLUMNS}) described,
       LATERAL ({_PARTS}) stored"""

RELATION_BY_NAME: Final = _RELATION + " WHERE n.nspname = %s AND c.relname = %s"
"""Arguments: schema, name. At most one row, for `relation_from_row`, of any kind of relation."""

RELATION_BY_OID: Final = _RELATION + " WHERE c.oid = %s::int8::oid"

RELATIONS_BY_OID: Final = _RELATION + " WHERE c.oid = ANY (%s::int8[]::oid[]) ORDER BY n.nspname, c.relname"
"""Argument: oids. A row for each that exists."""


def relation_from_row(row: Sequence[Any]) -> Relation:
    """The relation in a row of `RELATION_BY_NAME` or `RELATION_BY_OID`."""
    oid, schema, name, kind, key, columns, version, locale, provider, stamp, parts, *facts = row
    persistence, has_inheriting, is_row_security_active, has_deferrable_key, *rest = facts
    has_primary_key, unlogged_parts, is_readable, is_schema_usable, role, version_of_class = rest
    found = Relation(
        oid=oid,
        schema=schema,
        name=name,
        kind=kind,
        columns=msgspec.json.decode(columns, type=tuple[Column, ...]),
        primary_key=tuple(key),
        generation=0,
        publishes_generated=version >= _PUBLISHES_GENERATED,
        server_version=version,
        database_collation=locale,
        database_collation_provider=provider,
        stamp=stamp,
        parts=msgspec.json.decode(parts, type=tuple[Part, ...]),
        persistence=persistence,
        has_inheriting_tables=has_inheriting,
        is_row_security_active=is_row_security_active,
        has_deferrable_key=has_deferrable_key,
        has_primary_key=has_primary_key,
        unlogged_parts=tuple(unlogged_parts or ()),
        is_readable=is_readable,
        is_schema_usable=is_schema_usable,
        role=role,
        class_version=version_of_class,
    )
    return with_generation(found)


def with_generation(found: Relation) -> Relation:
    """`found` with the generation that is a digest of its content, so that the next owner computes the same
    one.

    Callers cache by generation, and after a restart of the owner they send it with their requests.
    """
    content = msgspec.msgpack.encode(found._replace(generation=0))
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return found._replace(generation=int.from_bytes(digest, "big") >> 1)


# --- partition trees

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
"""Argument: the oid of a partitioned table. The oids of its leaves at any depth.

Includes a partition that is being detached concurrently: open snapshots may still see its rows in the table.
"""

EXISTING: Final = """
SELECT c.oid::int8 FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::int8[]::oid[])"""
"""Argument: oids. Those that are relations."""

ANCESTORS: Final = """
WITH RECURSIVE above(start, oid) AS (
  SELECT wanted.oid, wanted.oid FROM pg_catalog.unnest(%s::int8[]::oid[]) wanted(oid)
  UNION
  SELECT above.start, i.inhparent FROM pg_catalog.pg_inherits i JOIN above ON i.inhrelid = above.oid
)
SELECT above.start::int8,
       pg_catalog.array_agg(c.oid::int8) FILTER (WHERE c.relkind = 'p' AND c.oid <> above.start)
  FROM above LEFT JOIN pg_catalog.pg_class c USING (oid)
 GROUP BY above.start"""
"""Argument: oids of relations. One row for each: its oid, and those of its partitioned ancestors or NULL."""

TABLE_SIZE: Final = "SELECT pg_catalog.pg_relation_size(%s::int8::oid)"
"""Argument: the oid of a table. Its size in bytes, NULL if it does not exist; waits for DDL on the table."""
