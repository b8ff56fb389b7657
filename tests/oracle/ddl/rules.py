"""Which statement may end which shapes, and which shapes may be refused.

A shape may be ended (409) by a statement if this can change what a client gets: its rows, the texts of its
values, its key or its description. Where a rule says `NOBODY`, a refetch is one too many. The rules say
nothing of wrong rows: these are wrong after any statement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from tests.oracle.ddl.catalog import Catalog, Table
from tests.oracle.ddl.shapes import Shape
from tests.oracle.ddl.statements import Kind


class Reach(Enum):
    """Which shapes of the statement's tables, and of those above and below them, it may end."""

    NOBODY = "nobody"
    COLUMNS = "shapes that select one of its columns, or whose clause reads one"
    UNLISTED = "shapes without a list of columns"
    TABLE = "all shapes of the table"
    EVERYBODY = "all shapes"


RULES: dict[Kind, Reach] = {
    Kind.CONTROL: Reach.NOBODY,
    Kind.DML: Reach.NOBODY,
    Kind.TRUNCATE: Reach.TABLE,
    Kind.CREATE_TABLE: Reach.NOBODY,
    Kind.DROP_TABLE: Reach.TABLE,
    Kind.RENAME_TABLE: Reach.TABLE,
    Kind.SET_SCHEMA: Reach.TABLE,
    Kind.RENAME_SCHEMA: Reach.TABLE,
    Kind.DROP_SCHEMA: Reach.TABLE,
    Kind.ADD_COLUMN: Reach.UNLISTED,
    Kind.DROP_COLUMN: Reach.COLUMNS,
    Kind.RENAME_COLUMN: Reach.COLUMNS,
    Kind.RETYPE: Reach.COLUMNS,
    Kind.RETYPE_USING: Reach.COLUMNS,
    Kind.SAME_TYPE_USING: Reach.COLUMNS,
    Kind.SET_NOT_NULL: Reach.NOBODY,
    Kind.DROP_NOT_NULL: Reach.NOBODY,
    Kind.DEFAULT: Reach.NOBODY,
    Kind.SET_EXPRESSION: Reach.COLUMNS,
    # A generated column may not be replicated, an ordinary one is.
    Kind.DROP_EXPRESSION: Reach.COLUMNS,
    Kind.STATISTICS: Reach.NOBODY,
    Kind.STORAGE: Reach.NOBODY,
    Kind.ADD_CONSTRAINT: Reach.NOBODY,
    Kind.DROP_CONSTRAINT: Reach.NOBODY,
    Kind.MOVE_KEY: Reach.TABLE,
    # Until it is FULL again, changes come without their old rows.
    Kind.IDENTITY: Reach.TABLE,
    Kind.PARAMETERS: Reach.NOBODY,
    Kind.CLUSTER_ON: Reach.NOBODY,
    Kind.ROW_SECURITY: Reach.TABLE,
    Kind.INHERIT: Reach.TABLE,
    Kind.NO_INHERIT: Reach.TABLE,
    # The rows of the partition come and go without a change.
    Kind.ATTACH: Reach.TABLE,
    Kind.DETACH: Reach.TABLE,
    Kind.CREATE_PARTITION: Reach.NOBODY,
    Kind.DROP_PARTITION: Reach.TABLE,
    Kind.CREATE_TYPE: Reach.NOBODY,
    Kind.DROP_TYPE: Reach.COLUMNS,
    Kind.RENAME_TYPE: Reach.COLUMNS,
    Kind.ENUM_ADD: Reach.NOBODY,
    Kind.ENUM_RENAME: Reach.COLUMNS,
    Kind.ATTRIBUTE: Reach.COLUMNS,
    Kind.DOMAIN: Reach.NOBODY,
    Kind.INDEX: Reach.NOBODY,
    Kind.VACUUM_FULL: Reach.NOBODY,
    Kind.CLUSTER: Reach.NOBODY,
    Kind.ANALYZE: Reach.NOBODY,
    Kind.REINDEX: Reach.NOBODY,
    Kind.COMMENT: Reach.NOBODY,
    Kind.PRIVILEGE: Reach.NOBODY,
    Kind.PUBLICATION_LEAVE: Reach.TABLE,
    Kind.PUBLICATION_JOIN: Reach.NOBODY,
    Kind.PUBLICATION_NARROW: Reach.TABLE,
    Kind.PUBLICATION_OPERATIONS: Reach.EVERYBODY,
    Kind.DROP_PUBLICATION: Reach.EVERYBODY,
    Kind.MIGRATION: Reach.EVERYBODY,
}


@dataclass(frozen=True)
class Permission:
    """What a committed statement may end, from then on."""

    since: float
    """`time.monotonic()` after its commit."""
    kind: Kind
    reach: Reach
    tables: frozenset[str] = frozenset()
    columns: frozenset[str] = frozenset()

    def concerns(self, shape: Shape) -> bool:
        """Whether the statement may end the shape."""
        if self.reach is Reach.EVERYBODY:
            return True
        if self.reach is Reach.NOBODY or shape.table not in self.tables:
            return False
        match self.reach:
            case Reach.COLUMNS:
                return any(map(shape.reads, self.columns))
            case Reach.UNLISTED:
                return shape.columns is None
        return True


def changed_keys(before: Catalog, after: Catalog) -> set[int]:
    """The tables for which other columns identify a row now, whatever statement did that."""
    both = _in_both(before, after)
    return {oid for oid in both if _identity(before.tables[oid]) != _identity(after.tables[oid])}


def filled_columns(before: Catalog, after: Catalog) -> dict[int, set[str]]:
    """The columns that were added with a default, and have it stored now because of some rewrite, by table.

    What the rewrite has stored cannot be told from other values, once.
    """
    found = {
        oid: _missing(before.tables[oid]) - _missing(after.tables[oid]) for oid in _in_both(before, after)
    }
    return {oid: columns for oid, columns in found.items() if columns}


def newly_virtual(before: Catalog, after: Catalog) -> set[int]:
    """The tables that have a virtual generated column now, with which they cannot be followed."""
    both = _in_both(before, after)
    return {oid for oid in both if _has_virtual(after.tables[oid]) and not _has_virtual(before.tables[oid])}


def _in_both(before: Catalog, after: Catalog) -> set[int]:
    return before.tables.keys() & after.tables.keys()


def _missing(table: Table) -> set[str]:
    return {one.name for one in table.columns if one.has_missing}


def _identity(table: Table) -> object:
    return table.key or table.identifying


def full_names(oids: Iterable[int], *catalogs: Catalog) -> frozenset[str]:
    """The names of the tables and of their families, in all of the catalogs."""
    return frozenset(
        catalog.tables[one].full_name
        for catalog in catalogs
        for oid in oids
        for one in catalog.family(oid)
        if one in catalog.tables
    )


OF_TYPES = (Kind.ENUM_RENAME, Kind.ATTRIBUTE)
"""They do not wait for writers: a writer that began before may end shapes when it commits."""

CLAUSE_TYPES = ("integer", "bigint", "text", "character varying", "numeric", "boolean", "date")


def may_be_refused(shape: Shape, catalog: Catalog) -> str | None:
    """Why a server may refuse a shape although Postgres has rows for it; None if it must not."""
    table = catalog.named(shape.table)
    if table is None:
        return "the table does not exist"
    family = [catalog.tables[oid] for oid in catalog.family(table.oid) if oid in catalog.tables]
    for reason, holds in (
        ("no key", not any(one.kind == "p" and not one.is_deferrable for one in table.constraints)),
        ("inheritance", any(not one.is_partition for one in catalog.children(table.oid))),
        ("row security", any(one.has_row_security for one in family)),
        ("identity", any(one.identity == "n" for one in family)),
        ("generated", _reads_generated(shape, table) or any(map(_has_virtual, family))),
        ("clause", any(not _is_simple(table, name) for name in shape.where_columns)),
        ("publication", is_narrowed(shape, catalog)),
    ):
        if holds:
            return reason
    return None


def _reads_generated(shape: Shape, table: Table) -> bool:
    return any(one.generated and shape.reads(one.name) for one in table.columns)


def _has_virtual(table: Table) -> bool:
    return any(one.generated == "v" for one in table.columns)


def _is_simple(table: Table, name: str) -> bool:
    column = table.column(name)
    return column is not None and (column.kind == "e" or column.base in CLAUSE_TYPES)


def is_narrowed(shape: Shape, catalog: Catalog) -> bool:
    """Whether the publication's owner holds back changes of the table."""
    publication, table = catalog.publication, catalog.named(shape.table)
    if publication is None or table is None:
        return False
    return not publication.publishes_all or not publication.narrowed.isdisjoint(catalog.family(table.oid))
