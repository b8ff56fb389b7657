"""What is known about a relation that somebody may want shapes on. Pure."""

from __future__ import annotations

from typing import NamedTuple


class PartFacts(NamedTuple):
    """A table, or a leaf of a partitioned one, that holds rows."""

    schema: str
    name: str
    kind: str
    """`relkind`."""
    persistence: str
    """`relpersistence`."""
    is_ours: bool
    """Whether the role owns it, or is a member of its owner."""
    is_full: bool
    """Whether its replica identity is FULL."""


class VirtualColumn(NamedTuple):
    """A generated column that is computed when it is read (Postgres 18)."""

    name: str
    type: str
    """As in CREATE TABLE."""
    expression: str


class TableFacts(NamedTuple):
    """A relation, as the role that is connected sees it."""

    schema: str
    name: str
    kind: str
    """`relkind`: r table, p partitioned, v view, m materialised view, f foreign table, …"""
    persistence: str
    """`relpersistence`: p permanent, u unlogged, t temporary."""
    is_system: bool
    """Whether it is in a schema of Postgres itself."""
    is_partition: bool
    owner: str
    is_owner_superuser: bool
    is_ours: bool
    may_use_schema: bool
    may_select: bool
    may_select_some: bool
    """Whether it may read at least one column."""
    has_row_security: bool
    """Whether row-level security applies to the role."""
    is_inherited: bool
    """Whether tables that are not partitions inherit from it."""
    key: tuple[str, ...]
    """The columns of the primary key that is not deferrable, or of another such key without NULLs."""
    deferrable_key: tuple[str, str] | None
    """Name and definition of a primary key that is deferrable."""
    virtual_columns: tuple[VirtualColumn, ...]
    has_stored_columns: bool
    is_published: bool
    is_partly_published: bool
    """Whether the membership has a row filter or a column list."""
    parts: tuple[PartFacts, ...]
    """The table itself, or all leaves of a partitioned one, and itself."""
