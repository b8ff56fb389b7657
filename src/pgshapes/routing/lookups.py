"""Shapes by the values that a row must have in certain columns. Pure; parts of `ShapeIndex`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import chain
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

from pgshapes.model.change import Row
from pgshapes.routing.clause_groups import Clauses
from pgshapes.where.clause import Predicate
from pgshapes.where.cost import reading_s
from pgshapes.where.index_plan import IndexTerm, KeyColumn
from pgshapes.where.types import large_values
from pgshapes.where.types.arrays import decode_array, large_array
from pgshapes.where.types.membership import distinct_items
from pgshapes.where.types.registry import type_io

ShapeId = TypeVar("ShapeId", bound=Hashable)

_NO_ITEMS: Final[frozenset[Any]] = frozenset()


class Bucket(Generic[ShapeId]):
    """Shapes under one key: those that match by it, and those whose clause must be evaluated."""

    __slots__ = ("conditional", "matching")

    def __init__(self) -> None:
        self.matching: set[ShapeId] = set()
        self.conditional: Clauses[ShapeId] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it has no shapes."""
        return not self.matching and self.conditional is None

    def add(self, shape_id: ShapeId, predicate: Predicate, *, is_complete: bool) -> None:
        if is_complete:
            self.matching.add(shape_id)
        else:
            self.conditional = self.conditional or Clauses()
            self.conditional.add(shape_id, predicate)

    def remove(self, shape_id: ShapeId, predicate: Predicate, *, is_complete: bool) -> None:
        if is_complete:
            self.matching.discard(shape_id)
        elif self.conditional is not None:
            self.conditional.remove(shape_id, predicate)
            self.conditional = self.conditional if self.conditional.by_sql else None

    def shapes(self) -> set[ShapeId]:
        """All shapes under the key."""
        groups = self.conditional.by_sql.values() if self.conditional else ()
        return self.matching.union(*(group.shapes for group in groups))


_Buckets = dict[Hashable, Bucket[ShapeId]]


class Lookup(Generic[ShapeId]):
    """All shapes that are looked up by the same columns. The last may be an element of an array.

    `find` returns the buckets of a row. It decodes large texts once for all look-ups (`large_values`).
    """

    __slots__ = ("_by_others", "_columns", "_has_element", "find")

    def __init__(self, columns: tuple[KeyColumn, ...]) -> None:
        self._columns = columns
        self._has_element = columns[-1].is_element
        self._by_others: dict[Hashable, _Buckets[ShapeId]] = {}
        """With an element, by the values of the other columns, the buckets by the element; otherwise the
        buckets by the values, under `()`.
        """
        if self._has_element:
            self.find = _element_finder(columns, self._by_others)
        else:
            self.find = _finder(columns, self._by_others.setdefault((), {}))

    def __bool__(self) -> bool:
        return any(self._by_others.values())

    def add(self, shape_id: ShapeId, term: IndexTerm, predicate: Predicate) -> None:
        for others, key in self._keys(term):
            buckets = self._by_others.setdefault(others, {})
            buckets.setdefault(key, Bucket()).add(shape_id, predicate, is_complete=term.is_complete)

    def remove(self, shape_id: ShapeId, term: IndexTerm, predicate: Predicate) -> None:
        for others, key in self._keys(term):
            buckets = self._by_others.get(others, {})
            bucket = buckets.get(key)
            if bucket is None:
                continue
            bucket.remove(shape_id, predicate, is_complete=term.is_complete)
            if bucket.is_empty:
                del buckets[key]
                if self._has_element and not buckets:
                    del self._by_others[others]

    def shapes(self) -> frozenset[ShapeId]:
        """All shapes that are looked up."""
        buckets = chain.from_iterable(one.values() for one in self._by_others.values())
        return frozenset().union(*(bucket.shapes() for bucket in buckets))

    def reading_s(self, row: Row) -> float:
        """How long it may take to read the values of a row, in seconds."""
        texts = ((column, row[column.position]) for column in self._columns if not column.is_text)
        return sum(
            reading_s(column.type, text, is_array=column.is_element)
            for column, text in texts
            if text is not None
        )

    def _keys(self, term: IndexTerm) -> Iterator[tuple[Hashable, Hashable]]:
        is_single = len(term.columns) == 1
        for key in term.keys:
            if self._has_element:
                yield _of(key[:-1]), key[-1]
            else:
                yield (), key[0] if is_single else key


def _of(values: tuple[Hashable, ...]) -> Hashable:
    """The values as `itemgetter` returns them."""
    return values[0] if len(values) == 1 else values


def _finder(
    columns: tuple[KeyColumn, ...], buckets: _Buckets[ShapeId]
) -> Callable[[Row], Iterable[Bucket[ShapeId]]]:
    read, get = _reader(columns), buckets.get

    def find(row: Row) -> Iterable[Bucket[ShapeId]]:
        bucket = get(read(row))
        return () if bucket is None else (bucket,)

    return find


def _element_finder(
    columns: tuple[KeyColumn, ...], by_others: dict[Hashable, _Buckets[ShapeId]]
) -> Callable[[Row], Iterable[Bucket[ShapeId]]]:
    read, items_of = _reader(columns[:-1]), _items_reader(columns[-1])

    def find(row: Row) -> Iterable[Bucket[ShapeId]]:
        buckets = by_others.get(read(row))
        if buckets is None:
            return ()
        # The smaller side is gone through.
        return [buckets[item] for item in buckets.keys() & items_of(row)]

    return find


def _reader(columns: tuple[KeyColumn, ...]) -> Callable[[Row], Hashable]:
    """A function that returns a row's values: of several columns a tuple, of none an empty one."""
    if not columns:
        return lambda _: ()
    if all(column.is_text for column in columns):
        return itemgetter(*(column.position for column in columns))
    readers = [_value_reader(column) for column in columns]
    return readers[0] if len(readers) == 1 else lambda row: tuple(reader(row) for reader in readers)


def _value_reader(column: KeyColumn) -> Callable[[Row], Hashable]:
    index = column.position
    if column.is_text:
        return itemgetter(index)
    decode = _io(column).decode

    def read(row: Row) -> Hashable:
        text = row[index]
        value: Hashable = None if text is None else large_values.decoded(decode, text)
        return value

    return read


def _items_reader(column: KeyColumn) -> Callable[[Row], AbstractSet[Any]]:
    index, decode = column.position, _io(column).decode

    def read(row: Row) -> AbstractSet[Any]:
        text = row[index]
        if text is None:
            return _NO_ITEMS
        if len(text) < large_values.LARGE:
            return frozenset(decode_array(text, decode).items)
        return distinct_items(large_array(text, decode))

    return read


def _io(column: KeyColumn) -> Any:
    return type_io(column.type)
