"""A small table, shapes on it, and transactions that change it, for tests of routing. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from pgshapes.model.change import Change, Fragment, Operation, Row
from pgshapes.model.relation import Column, Relation
from pgshapes.model.shape import ShapeDefinition
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres.pgoutput_messages import RelationColumn, RelationMessage
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.projection import RenderedMessage
from pgshapes.routing.routed import Routed
from pgshapes.routing.router import Router
from pgshapes.shape_log.store import Entry
from pgshapes.where.clause import clause_from_sql

TYPES: Final = {"int4": 23, "int8": 20, "text": 25, "_int4": 1007}
OLD_SNAPSHOT: Final = SnapshotVisibility(5, 5, (), 0)
"""A snapshot before all transactions of a test: all of them go to the log."""


def column(name: str, type_name: str = "int4", pk_index: int | None = None) -> Column:
    """A column of a plain type."""
    collation = "C" if type_name == "text" else None
    return Column(
        name, TYPES[type_name], type_name, "b", -1, 0, None, pk_index is not None, pk_index, False, collation
    )


def relation(*columns: Column, oid: int = 10, name: str = "items", kind: str = "r") -> Relation:
    """A table of schema `public`."""
    keyed = sorted((one.pk_index, one.name) for one in columns if one.pk_index is not None)
    return Relation(
        oid, "public", name, kind, columns, tuple(name for _, name in keyed), 1, server_version=160000
    )


ID, TITLE, GRADE = column("id", pk_index=0), column("title", "text"), column("grade")
ITEMS: Final = relation(ID, TITLE, GRADE)
ROOT: Final = relation(ID, TITLE, GRADE, kind="p")
LEAF: Final = relation(GRADE, ID, TITLE, oid=11, name="items_1")
"""A partitioned table, and a leaf with another column order."""


def announcement(table: Relation, *, oid: int | None = None, name: str | None = None) -> RelationMessage:
    """The RELATION message for a table."""
    columns = tuple(
        RelationColumn(one.name, one.type_oid, one.typmod, one.pk_index is not None) for one in table.columns
    )
    return RelationMessage(oid or table.oid, table.schema, name or table.name, "f", columns)


def definition(
    table: Relation = ITEMS,
    columns: Iterable[str] | None = None,
    where: str | None = None,
    replica: str = "default",
) -> ShapeDefinition:
    """A checked definition; without `columns` all are selected."""
    selected = [one.name for one in table.columns] if columns is None else columns
    return ShapeDefinition(
        (table.oid,),
        table.schema,
        table.name,
        table.key_columns,
        tuple(sorted(selected)),
        where,
        columns is None,
        replica,
        "full",
    )


def new_router() -> Router:
    """A router without delivered transactions."""
    return Router(DeliveredTransactions())


def registered(
    router: Router,
    handle: str,
    table: Relation = ITEMS,
    *,
    columns: Iterable[str] | None = None,
    where: str | None = None,
    replica: str = "default",
    leaves: Iterable[int] = (),
) -> None:
    """Register a shape that has no snapshot yet."""
    clause = clause_from_sql(where, table) if where else None
    router.register(handle, table, definition(table, columns, where, replica), clause, leaves=leaves)


def live(
    router: Router,
    handle: str,
    table: Relation = ITEMS,
    *,
    columns: Iterable[str] | None = None,
    where: str | None = None,
    leaves: Iterable[int] = (),
) -> None:
    """Register a shape whose snapshot is older than all transactions of the test."""
    registered(router, handle, table, columns=columns, where=where, leaves=leaves)
    router.release(handle, OLD_SNAPSHOT)


def inserted(op: int, *new: str | None, oid: int = 10) -> Change:
    """An inserted row."""
    return Change(Operation.INSERT, oid, op, None, new)


def updated(op: int, old: Row, new: Row, oid: int = 10) -> Change:
    """An updated row."""
    return Change(Operation.UPDATE, oid, op, old, new)


def deleted(op: int, *old: str | None, oid: int = 10) -> Change:
    """A deleted row."""
    return Change(Operation.DELETE, oid, op, old, None)


def truncated(op: int, oid: int = 10) -> Change:
    """A truncated table."""
    return Change(Operation.TRUNCATE, oid, op)


def transaction(commit_lsn: int, *changes: Change, xid: int = 70) -> Fragment:
    """A transaction in one fragment."""
    return Fragment(xid, commit_lsn, commit_lsn + 8, changes, True, True)


def piece(commit_lsn: int, *changes: Change, xid: int = 70, is_last: bool = False) -> Fragment:
    """A fragment of a transaction."""
    return Fragment(xid, commit_lsn, commit_lsn + 8 if is_last else 0, changes, False, is_last)


def parsed(entry: Entry) -> dict[str, Any]:
    """The message of an entry."""
    message: dict[str, Any] = orjson.loads(entry.json)
    return message


def message_of(rendered: RenderedMessage) -> dict[str, Any]:
    """A rendered message that is not the last of its transaction."""
    return parsed(rendered.entry())


def appended_entries(routed: Routed, handle: str = "h") -> list[tuple[str, str | None, bool]]:
    """The entries for a shape's log: operation, id, and whether it is marked as the last."""
    return [
        (one["headers"]["operation"], one["value"].get("id"), one["headers"].get("last", False))
        for append in routed.appends
        if append.handle == handle
        for one in map(parsed, append.entries)
    ]


def handles(routed: Routed) -> set[str]:
    """The shapes with entries to append."""
    return {append.handle for append in routed.appends}
