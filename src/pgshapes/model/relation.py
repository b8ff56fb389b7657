"""A table as the system catalogs describe it (manual: pg_class, pg_attribute, pg_type)."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple


class Column(NamedTuple):
    """One column that is neither dropped nor a system column, in attribute order."""

    name: str
    type_oid: int
    type_name: str
    """`pg_type.typname` of the column's own type: `int4`, `_int4` for an array, the domain's or enum's
    name.
    """
    type_kind: str
    """`pg_type.typtype`: b base, c composite, d domain, e enum, r range, m multirange, p pseudo."""
    typmod: int
    dims: int
    """`attndims`: declared array dimensions, 0 for none."""
    element_type_name: str | None
    """`typname` of the array's element type, None when the type is not an array."""
    not_null: bool
    pk_index: int | None
    """0-based position in the primary key."""
    is_generated: bool
    collation: str | None = None
    """`pg_collation.collcollate`-like name of the column's collation (`C`, `en_US.UTF-8`, …), None if not
    collatable. The database's default collation is resolved to its real name."""
    is_deterministic_collation: bool = True
    collation_provider: str = "c"
    """`pg_collation.collprovider` (the database's for its default): c libc, i ICU, b builtin."""
    base_type_oid: int = 0
    """For a domain: oid of the type under all its domains (`getBaseType`); else 0."""
    is_virtual: bool = False
    """Computed when it is read (Postgres 18), so it is never replicated."""


class RelationData(NamedTuple):
    """The data of a relation, as sent between processes; `Relation` adds look-ups to it."""

    oid: int
    schema: str
    name: str
    kind: str
    """`relkind`: r ordinary table, p partitioned root."""
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    """Names of the key columns in key order; empty without a primary key."""
    generation: int
    """A digest of the other fields. Resolved definitions are cached for one generation."""
    publishes_generated: bool = False
    """Whether this server can replicate generated columns (Postgres 18 and newer)."""
    server_version: int = 0
    """`server_version_num`, 0 if not known; some functions differ between versions."""
    database_collation: str | None = None
    """Locale of the database's default collation, which text that comes from no column has; None if not
    known.
    """
    database_collation_provider: str = "c"


class Relation(RelationData):
    """A table, with look-ups. Immutable; equality is that of its data."""

    @cached_property
    def column_index(self) -> dict[str, int]:
        """Column name → position in a row."""
        return {column.name: index for index, column in enumerate(self.columns)}

    @cached_property
    def key_columns(self) -> tuple[str, ...]:
        """The primary key's columns, or all columns in attribute order for a table without one."""
        return self.primary_key or tuple(column.name for column in self.columns)
