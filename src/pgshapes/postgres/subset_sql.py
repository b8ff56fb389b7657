"""The statements of one subset snapshot (http-api §7). Pure: values to text.

Invariant: what a client wrote is in no statement; clauses come rebuilt from `where`, names and numbers are
written here.
"""

from __future__ import annotations

from typing import NamedTuple

from pgshapes.model.relation import Relation
from pgshapes.postgres.identifiers import qualified_name, quote_identifier
from pgshapes.postgres.rendering import copy_texts, from_item, row_json
from pgshapes.where.sort_order import SortTerm


class SubsetSelection(NamedTuple):
    """Which rows of a relation, in which order. Clauses are rebuilt SQL (design §9)."""

    relation: Relation
    columns: tuple[str, ...]
    shape_where: str | None = None
    subset_where: str | None = None
    order: tuple[SortTerm, ...] = ()
    limit: int | None = None
    offset: int | None = None


def lock_table(relation: Relation) -> str:
    """Keeps the table as it is until the transaction ends; writers are not disturbed.

    Before the snapshot: what a later TRUNCATE or rewriting ALTER leaves behind looks empty to it (manual:
    Caveats of MVCC).
    """
    return f"LOCK TABLE {from_item(relation)} IN ACCESS SHARE MODE"


def select_columns(relation: Relation, columns: tuple[str, ...]) -> str:
    """A statement to be described: its result columns tell what the table's columns are now."""
    names = ", ".join(map(quote_identifier, columns))
    return f"SELECT {names} FROM {from_item(relation)}"


def copy_subset(selection: SubsetSelection, snapshot_mark: int) -> str:
    """The COPY statement that sends one JSON text per line."""
    row = row_json(selection.relation, selection.columns, snapshot_mark)
    clauses = [f"({clause})" for clause in (selection.shape_where, selection.subset_where) if clause]
    query = f"SELECT {row} FROM {from_item(selection.relation)}"
    if clauses:
        query += f" WHERE {' AND '.join(clauses)}"
    return copy_texts(query + _order(selection) + _page(selection))


def _order(selection: SubsetSelection) -> str:
    if not selection.order:
        return ""
    return " ORDER BY " + ", ".join(_term(selection.relation, term) for term in selection.order)


def _term(relation: Relation, term: SortTerm) -> str:
    """With its table: a bare name may mean the result column that the row's expression makes."""
    direction = "DESC" if term.is_descending else "ASC"
    nulls = "" if term.nulls_first is None else f" NULLS {'FIRST' if term.nulls_first else 'LAST'}"
    return (
        f"{qualified_name(relation.schema, relation.name)}.{quote_identifier(term.column)} {direction}{nulls}"
    )


def _page(selection: SubsetSelection) -> str:
    limit = "" if selection.limit is None else f" LIMIT {selection.limit:d}"
    offset = "" if selection.offset is None else f" OFFSET {selection.offset:d}"
    return limit + offset
