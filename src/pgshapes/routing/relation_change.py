"""Compares two readings of a relation: which change of the table ends a shape. Pure.

A shape ends if, without a change in the stream, rows that it has may be found, read, rendered or identified
in another way. Invariant: a change that cannot do that ends no shape, for example VACUUM FULL, an index or a
column that the shape does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

from pgshapes.model.relation import Column, Part, Relation, TypeDetail

_ENUM: Final = "e"
_RENAMED: Final = "the table was renamed"
_OTHER_KIND: Final = "the table was replaced by one of another kind"
_OTHER_KEY: Final = "the key of the table was changed"
_OTHER_COLUMNS: Final = "columns of the table were added or dropped"
_COLUMN_CHANGED: Final = 'column "{}" was changed'
_UNREADABLE: Final = 'the role of the server may no longer read column "{}"'
_MAY_HAVE_LEFT: Final = "the table may have left the publication, which does not name it"
_DETACHED: Final = "a partition was dropped or detached"
_OTHER_EXPRESSION: Final = "a generated column of a partition was changed"
_ATTACHED: Final = "a table that may have rows was attached as a partition"


def find_change(
    known: Relation,
    current: Relation,
    needed: Collection[str],
    *,
    selects_all_columns: bool,
    is_empty: Callable[[Part], bool],
    is_listed: bool = True,
) -> str | None:
    """Why a shape that was created on `known` ends on `current`; None if it does not.

    `needed` are the columns of its rows, key and clause. `is_empty` returns whether a partition that was
    attached had no rows. `is_listed` is whether the publication names the table: one that it has with its
    schema, or with all tables, may have left it and returned without a sign there, by SET SCHEMA or
    SET UNLOGGED.
    """
    if not is_listed and _versions(known) != _versions(current):
        return _MAY_HAVE_LEFT
    if (known.schema, known.name) != (current.schema, current.name):
        return _RENAMED
    if known.kind != current.kind:
        return _OTHER_KIND
    if known.key_columns != current.key_columns:
        return _OTHER_KEY
    if selects_all_columns and known.column_index.keys() != current.column_index.keys():
        return _OTHER_COLUMNS
    is_rewritten = _is_rewritten(known.parts, current.parts)
    for name in needed:
        if not _is_same_column(known, current, name, is_rewritten=is_rewritten):
            return _COLUMN_CHANGED.format(name)
        if not current.columns[current.column_index[name]].is_readable:
            return _UNREADABLE.format(name)
    return _find_partition_change(known.parts, current.parts, needed, is_empty)


def _versions(relation: Relation) -> tuple[object, ...]:
    """What changes when a table, or a part of it, leaves a publication that does not name it."""
    return relation.class_version, {part.oid: part.filenode for part in relation.parts}


def _is_same_column(known: Relation, current: Relation, name: str, *, is_rewritten: bool) -> bool:
    index = current.column_index.get(name)
    if index is None:
        return False
    was, now = known.columns[known.column_index[name]], current.columns[index]
    if is_rewritten and was.version != now.version:
        # ALTER COLUMN TYPE … USING changes both, VACUUM FULL the files only, SET NOT NULL the version only.
        return False
    return _meaning(was) == _meaning(now) and is_same_text(was.type_details, now.type_details)


def _meaning(column: Column) -> tuple[object, ...]:
    """What decides the values of a column and their text, apart from the types that can be altered."""
    return (
        column.number,
        column.type_oid,
        column.typmod,
        column.expression,
        column.is_generated,
        column.collation,
        column.is_deterministic_collation,
    )


def is_same_text(known: Iterable[TypeDetail], current: Iterable[TypeDetail]) -> bool:
    """Whether all values of a type have the same text as before. Enums may have additional labels."""
    now = {detail.oid: detail for detail in current}
    return all(_is_same_type(was, now.get(was.oid)) for was in known)


def _is_same_type(was: TypeDetail, now: TypeDetail | None) -> bool:
    if now is None:
        return False
    return set(was.parts) <= set(now.parts) if was.kind == now.kind == _ENUM else was == now


def _is_rewritten(known: Iterable[Part], current: Iterable[Part]) -> bool:
    """Whether a part that is in both has other files."""
    now = {part.oid: part.filenode for part in current}
    return any(now.get(part.oid, part.filenode) != part.filenode for part in known)


def _expressions(part: Part, needed: Collection[str]) -> list[tuple[str, int]]:
    return [one for one in part.expressions if one[0] in needed]


def _find_partition_change(
    known: Iterable[Part],
    current: Iterable[Part],
    needed: Collection[str],
    is_empty: Callable[[Part], bool],
) -> str | None:
    was = {part.oid: part for part in known}
    now = {part.oid: part for part in current}
    if any(oid not in now or now[oid].attachment != part.attachment for oid, part in was.items()):
        return _DETACHED
    if any(_expressions(now[oid], needed) != _expressions(part, needed) for oid, part in was.items()):
        return _OTHER_EXPRESSION
    added = (part for oid, part in now.items() if oid not in was)
    if any(not part.is_created_attached and not is_empty(part) for part in added):
        return _ATTACHED
    return None
