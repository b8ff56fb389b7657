"""Shapes by the values that a row must have in certain columns, and shapes by the text of their clause. Pure;
parts of `ShapeIndex`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from operator import itemgetter
from typing import Any, Generic, TypeVar

from pgshapes.model.change import Row
from pgshapes.routing.metering import Group, Groups
from pgshapes.where.clause import Predicate
from pgshapes.where.index_plan import IndexTerm, KeyColumn
from pgshapes.where.types.arrays import decode_array
from pgshapes.where.types.registry import type_io

ShapeId = TypeVar("ShapeId", bound=Hashable)


class Clauses(Generic[ShapeId]):
    """Groups of shapes by the text of their clause."""

    __slots__ = ("by_sql",)

    def __init__(self) -> None:
        self.by_sql: Groups = {}

    def add(self, shape_id: ShapeId, predicate: Predicate) -> None:
        group = self.by_sql.get(predicate.sql)
        if group is None:
            group = self.by_sql[predicate.sql] = Group(predicate)
        group.shapes.add(shape_id)

    def remove(self, shape_id: ShapeId, predicate: Predicate) -> None:
        group = self.by_sql.get(predicate.sql)
        if group is None:
            return
        group.shapes.discard(shape_id)
        if not group.shapes:
            del self.by_sql[predicate.sql]


class Bucket(Generic[ShapeId]):
    """Shapes under one key: those that match by it, and those whose clause must be evaluated."""

    __slots__ = ("conditional", "matching")

    def __init__(self) -> None:
        self.matching: set[ShapeId] = set()
        self.conditional: Clauses[ShapeId] | None = None


class Lookup(Generic[ShapeId]):
    """All shapes that are looked up by the same columns."""

    __slots__ = ("buckets", "keys")

    def __init__(self, columns: tuple[KeyColumn, ...]) -> None:
        self.keys = _key_reader(columns)
        self.buckets: dict[Hashable, Bucket[ShapeId]] = {}

    def add(self, shape_id: ShapeId, term: IndexTerm, predicate: Predicate) -> None:
        for key in _bucket_keys(term):
            bucket = self.buckets.setdefault(key, Bucket())
            if term.is_complete:
                bucket.matching.add(shape_id)
            else:
                bucket.conditional = bucket.conditional or Clauses()
                bucket.conditional.add(shape_id, predicate)

    def remove(self, shape_id: ShapeId, term: IndexTerm, predicate: Predicate) -> None:
        for key in _bucket_keys(term):
            bucket = self.buckets.get(key)
            if bucket is None:
                continue
            if term.is_complete:
                bucket.matching.discard(shape_id)
            elif bucket.conditional is not None:
                bucket.conditional.remove(shape_id, predicate)
                bucket.conditional = bucket.conditional if bucket.conditional.by_sql else None
            if not bucket.matching and bucket.conditional is None:
                del self.buckets[key]


def _bucket_keys(term: IndexTerm) -> Iterable[Hashable]:
    return (key[0] for key in term.keys) if len(term.columns) == 1 else term.keys


def _key_reader(columns: tuple[KeyColumn, ...]) -> Callable[[Row], Iterable[Hashable]]:
    """A function that returns a row's lookup keys: one, or one per element of its array."""
    if all(column.is_text for column in columns):
        read = itemgetter(*(column.position for column in columns))
        return lambda row: (read(row),)
    readers = [_value_reader(column) for column in columns if not column.is_element]
    element = next((column for column in columns if column.is_element), None)
    if element is None:
        only = readers[0]
        if len(readers) == 1:
            return lambda row: (only(row),)
        return lambda row: (tuple(reader(row) for reader in readers),)
    items = _element_reader(element)
    if not readers:
        return items
    return lambda row: {(*(reader(row) for reader in readers), item) for item in items(row)}


def _value_reader(column: KeyColumn) -> Callable[[Row], Hashable]:
    index = column.position
    if column.is_text:
        return itemgetter(index)
    decode = _io(column).decode

    def read(row: Row) -> Hashable:
        text = row[index]
        value: Hashable = None if text is None else decode(text)
        return value

    return read


def _element_reader(column: KeyColumn) -> Callable[[Row], Iterable[Hashable]]:
    index, decode = column.position, _io(column).decode

    def read(row: Row) -> Iterable[Hashable]:
        text = row[index]
        return () if text is None else {item for item in decode_array(text, decode).items if item is not None}

    return read


def _io(column: KeyColumn) -> Any:
    return type_io(column.type)
