"""A table as the system catalogs describe it (manual: pg_class, pg_attribute, pg_type)."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple


class TypeDetail(NamedTuple):
    """A type on whose definition the text of a column's values depends, and that can be altered."""

    oid: int
    kind: str
    """`pg_type.typtype`, or `n` for a type whose values are names of objects, such as regclass."""
    parts: tuple[tuple[int, str], ...] = ()
    """Enum: (oid of the label, label). Composite: (number, name and type of the attribute). Domain: the base
    type. Names of objects: a digest of all of them. Labels and attributes end with the xmin of their row: a
    change that was taken back may have left rows with another text.
    """


class Part(NamedTuple):
    """A table that stores rows: an ordinary table itself, or a leaf of a partitioned one."""

    oid: int
    attachment: str
    """The xmin of the rows of `pg_inherits` between it and the root, others after one of these tables was
    detached and attached; empty for a table that is no partition.
    """
    filenode: int
    """`relfilenode`, which is another one after the table was rewritten or truncated."""
    is_created_attached: bool = True
    """Whether it, and each table above it, was created as a partition: all its rows were inserted while it
    was one.
    """
    replica_identity: str = "f"
    """`relreplident`: f is FULL."""
    expressions: tuple[tuple[str, int], ...] = ()
    """The generated columns of a partition and the oids of their rows in `pg_attrdef`: a partition may have
    expressions of its own.
    """
    columns: tuple[str, ...] = ()
    """The names of its columns in their order, if that is another one than in the root."""


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
    """0-based position in `Relation.primary_key`."""
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
    number: int = 0
    """`attnum`: never used again for another column of the table."""
    version: int = 0
    """xmin of its row in `pg_attribute`."""
    expression: str | None = None
    """The version of the expression of a generated column: oid and xmin of its row in `pg_attrdef`. The text
    is not read, because deparsing it waits for DDL on the table.
    """
    type_details: tuple[TypeDetail, ...] = ()
    """The types that the text of its values depends on and that can be altered, its own included."""
    is_readable: bool = True
    """Whether the role of `database_url` may read it."""


class RelationData(NamedTuple):
    """The data of a relation, as sent between processes; `Relation` adds look-ups to it."""

    oid: int
    schema: str
    name: str
    kind: str
    """`relkind`: r ordinary table, p partitioned table; any other one cannot be followed (`followable`)."""
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    """Names of the columns that identify a row, in the order of their index: the primary key, else another
    unique index that cannot contain NULL; empty if there is neither. A deferrable key identifies no row.
    """
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
    stamp: str = ""
    """The versions of all rows of the system catalogs that the other fields come from."""
    parts: tuple[Part, ...] = ()
    """The table itself, or the leaves of a partitioned table, by oid."""
    persistence: str = "p"
    """`relpersistence`: p permanent, u unlogged, t temporary."""
    has_inheriting_tables: bool = False
    """Whether other tables inherit from it, partitions excluded: SELECT returns their rows, too."""
    is_row_security_active: bool = False
    """Whether policies apply to the role of `database_url`."""
    has_deferrable_key: bool = False
    """Whether its primary key is deferrable: then two rows may have the same key within a transaction."""
    has_primary_key: bool = True
    """Whether it has a primary key that is not deferrable, which each new partition then has, too."""
    unlogged_parts: tuple[str, ...] = ()
    """Qualified names of partitions that are not permanent, so that their changes are not replicated."""
    is_readable: bool = True
    """Whether the role of `database_url` has SELECT on the whole table; `Column.is_readable` has the rest."""
    is_schema_usable: bool = True
    """Whether the role of `database_url` has USAGE on the schema."""
    role: str = ""
    """The role of `database_url`, quoted as an identifier."""
    class_version: int = 0
    """xmin of its row in `pg_class`."""


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
