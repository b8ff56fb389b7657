"""What a database has, read from its system catalogs: the model from which statements are drawn and judged.

Only the schemas and types of the oracle are read. Nothing is computed from the statements themselves: after
each one the catalogs are read again, in the session that ran it, so that the model includes what a
transaction has not committed yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

SCHEMAS = ("alpha", "beta")
"""Those of random statements; types are in the schema public."""

_TABLES = """
SELECT c.oid::int8, n.nspname, c.relname, c.relkind, c.relispartition, c.relreplident, c.relrowsecurity,
  (SELECT array_agg(i.inhparent::int8) FROM pg_inherits i WHERE i.inhrelid = c.oid),
  pg_get_expr(c.relpartbound, c.oid),
  (SELECT array_agg(a.attname::text) FROM pg_partitioned_table p, unnest(p.partattrs) k
     JOIN pg_attribute a ON a.attnum = k WHERE p.partrelid = c.oid AND a.attrelid = c.oid),
  (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), t.typtype,
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, NULL) END, a.attnotnull,
       a.attgenerated, a.atthasdef, a.attinhcount > 0, a.atttypid::int8,
       a.atthasmissing) ORDER BY a.attnum)
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT json_agg(json_build_array(x.conname, x.contype, x.condeferrable,
       (SELECT json_agg(a.attname ORDER BY k.place) FROM unnest(x.conkey) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number), x.coninhcount > 0)
       ORDER BY x.conname)
     FROM pg_constraint x WHERE x.conrelid = c.oid AND x.contype IN ('p', 'u', 'c', 'f')),
  (SELECT json_agg(json_build_array(ic.relname, i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL,
       i.indimmediate, (SELECT json_agg(a.attname ORDER BY k.place)
          FROM unnest(i.indkey) WITH ORDINALITY k (number, place)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number),
       EXISTS (SELECT FROM pg_constraint x WHERE x.conindid = i.indexrelid), i.indisclustered)
       ORDER BY ic.relname)
     FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p') ORDER BY n.nspname, c.relname
"""

_TYPES = """
SELECT t.oid::int8, t.typname, t.typtype,
  (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
  (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
     WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typnamespace = 'public'::regnamespace AND (t.typtype IN ('e', 'd') OR c.relkind = 'c')
ORDER BY t.typname
"""

_PARTS = """
SELECT t.oid::int8, array_remove(ARRAY[t.typelem::int8, t.typbasetype::int8] || ARRAY(
  SELECT a.atttypid::int8 FROM pg_attribute a
  WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), 0)
FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace
"""

_PUBLICATION = """
SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
  (SELECT array_agg(r.prrelid::int8) FROM pg_publication_rel r WHERE r.prpubid = p.oid),
  (SELECT array_agg(r.prrelid::int8) FROM pg_publication_rel r WHERE r.prpubid = p.oid AND ({narrowed}))
FROM pg_publication p WHERE p.pubname = %s
"""


@dataclass(frozen=True)
class Column:
    """A column that is not dropped."""

    name: str
    type: str
    """As `format_type` writes it, with its modifier."""
    kind: str
    """`pg_type.typtype`: b base, c composite, d domain, e enum."""
    domain_base: str | None
    not_null: bool
    generated: str
    """Empty, s (stored) or v (virtual)."""
    has_default: bool
    is_inherited: bool
    type_oid: int
    has_missing: bool = False
    """Whether rows from before ADD COLUMN have the default of then, which is not stored in them."""

    @property
    def base(self) -> str:
        """The type that decides what values look like, without its modifier."""
        return (self.domain_base or self.type).partition("(")[0]


@dataclass(frozen=True)
class Constraint:
    """A primary key (p), unique (u), check (c) or foreign key (f) constraint."""

    name: str
    kind: str
    is_deferrable: bool
    columns: tuple[str, ...]
    is_inherited: bool


@dataclass(frozen=True)
class Index:
    """An index; `is_unique` only where it covers all rows by plain columns."""

    name: str
    is_unique: bool
    is_immediate: bool
    columns: tuple[str, ...]
    is_of_constraint: bool
    is_clustered: bool


@dataclass(frozen=True)
class Table:
    """An ordinary or partitioned table, or a partition."""

    oid: int
    schema: str
    name: str
    kind: str
    is_partition: bool
    identity: str
    has_row_security: bool
    parents: tuple[int, ...]
    bound: str | None
    partition_key: tuple[str, ...]
    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]

    @property
    def full_name(self) -> str:
        """`schema.name`, as in SQL."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns; empty without one."""
        return next((one.columns for one in self.constraints if one.kind == "p"), ())

    @property
    def identifying(self) -> frozenset[tuple[str, ...]]:
        """The column lists, of key and unique indexes, that could identify a row."""
        not_null = {one.name for one in self.columns if one.not_null}
        return frozenset(
            one.columns
            for one in self.indexes
            if one.is_unique and one.is_immediate and one.columns and not_null.issuperset(one.columns)
        )

    def column(self, name: str) -> Column | None:
        """The column of this name."""
        return next((one for one in self.columns if one.name == name), None)


@dataclass(frozen=True)
class UserType:
    """An enum (e), a domain (d) or a composite type (c) in the schema public."""

    oid: int
    name: str
    kind: str
    parts: tuple[str, ...]
    """Labels of an enum, attributes of a composite type."""


@dataclass(frozen=True)
class PublicationState:
    """The server's publication, as its owner may have changed it."""

    publishes_all: bool
    members: frozenset[int]
    narrowed: frozenset[int]
    """Members with a row filter or a column list."""


@dataclass(frozen=True)
class Catalog:
    """Everything that the oracle's statements can name."""

    tables: dict[int, Table] = field(default_factory=dict)
    types: tuple[UserType, ...] = ()
    publication: PublicationState | None = None
    type_parts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Types of which a type of the schema public is made: elements, bases, attributes."""

    def named(self, full_name: str) -> Table | None:
        """The table of this full name."""
        return next((one for one in self.tables.values() if one.full_name == full_name), None)

    def children(self, oid: int) -> list[Table]:
        """The partitions of, and tables that inherit from, a table."""
        return [one for one in self.tables.values() if oid in one.parents]

    def family(self, oid: int) -> set[int]:
        """The table with everything above and below it."""
        return {oid, *self._above(oid), *self._below(oid)}

    def using(self, type_oid: int) -> Iterator[tuple[Table, Column]]:
        """The columns of a type, or of one that is made of it."""
        for table in self.tables.values():
            yield from ((table, one) for one in table.columns if self._is_made_of(one.type_oid, type_oid))

    def _is_made_of(self, oid: int, part: int) -> bool:
        return oid == part or any(self._is_made_of(one, part) for one in self.type_parts.get(oid, ()))

    def _above(self, oid: int) -> Iterator[int]:
        for parent in self.tables[oid].parents if oid in self.tables else ():
            yield parent
            yield from self._above(parent)

    def _below(self, oid: int) -> Iterator[int]:
        for child in self.children(oid):
            yield child.oid
            yield from self._below(child.oid)


def read_catalog(
    connection: psycopg.Connection[Any], publication: str, schemas: tuple[str, ...] = SCHEMAS
) -> Catalog:
    """The catalog as the session sees it."""
    rows = connection.execute(_TABLES, (list(schemas),)).fetchall()
    types = connection.execute(_TYPES).fetchall()
    has_narrowing = connection.info.server_version >= 150000
    parts = connection.execute(_PARTS).fetchall()
    narrowed = "r.prqual IS NOT NULL OR r.prattrs IS NOT NULL" if has_narrowing else "false"
    found = connection.execute(_PUBLICATION.replace("{narrowed}", narrowed), (publication,)).fetchone()
    return Catalog(
        {row[0]: _table(row) for row in rows},
        tuple(
            UserType(oid, name, kind, tuple(labels or parts or ()))
            for oid, name, kind, labels, parts in types
        ),
        PublicationState(found[0], frozenset(found[1] or ()), frozenset(found[2] or ())) if found else None,
        {oid: tuple(of) for oid, of in parts},
    )


def _table(row: Sequence[Any]) -> Table:
    columns, constraints, indexes = (row[place] or () for place in (10, 11, 12))
    oid, schema, name, kind, is_partition, identity, has_row_security = row[:7]
    return Table(
        oid,
        schema,
        name,
        kind,
        is_partition,
        identity,
        has_row_security,
        parents=tuple(row[7] or ()),
        bound=row[8],
        partition_key=tuple(row[9] or ()),
        columns=tuple(Column(*one) for one in columns),
        constraints=tuple(Constraint(a, b, c, tuple(names or ()), e) for a, b, c, names, e in constraints),
        indexes=tuple(Index(a, b, c, tuple(names or ()), e, f) for a, b, c, names, e, f in indexes),
    )


def quoted(name: str) -> str:
    """The name as an identifier."""
    is_plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name != "select"
    return name if is_plain else '"' + name.replace('"', '""') + '"'
