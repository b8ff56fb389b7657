"""Finds the shapes of one relation that a row belongs to, without evaluating every clause.

Equality clauses are looked up by value. The others are grouped by identical text, so that a thousand shapes
with the same clause need one evaluation. The result is exact. Pure; owned by the router.

A look-up that raises does not say for which shape. `verdicts` does, without the index: it evaluates every
distinct clause for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

from pgshapes.model.change import Row
from pgshapes.routing.failures import Evaluate
from pgshapes.routing.metering import Group, Groups, Meter
from pgshapes.where.clause import Predicate
from pgshapes.where.index_plan import IndexTerm, KeyColumn
from pgshapes.where.types.arrays import decode_array
from pgshapes.where.types.registry import type_io

ShapeId = TypeVar("ShapeId", bound=Hashable)

_NO_SHAPES: Final[AbstractSet[Any]] = frozenset()


class _Clauses(Generic[ShapeId]):
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


class _Bucket(Generic[ShapeId]):
    """Shapes under one key: those that match by it, and those whose clause must be evaluated."""

    __slots__ = ("conditional", "matching")

    def __init__(self) -> None:
        self.matching: set[ShapeId] = set()
        self.conditional: _Clauses[ShapeId] | None = None


class _Lookup(Generic[ShapeId]):
    """All shapes that are looked up by the same columns."""

    __slots__ = ("buckets", "keys")

    def __init__(self, columns: tuple[KeyColumn, ...]) -> None:
        self.keys = _key_reader(columns)
        self.buckets: dict[Hashable, _Bucket[ShapeId]] = {}

    def add(self, shape_id: ShapeId, term: IndexTerm, predicate: Predicate) -> None:
        for key in _bucket_keys(term):
            bucket = self.buckets.setdefault(key, _Bucket())
            if term.is_complete:
                bucket.matching.add(shape_id)
            else:
                bucket.conditional = bucket.conditional or _Clauses()
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


class ShapeIndex(Generic[ShapeId]):
    """The shapes of one relation by their clauses."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._predicates: dict[ShapeId, Predicate | None] = {}
        self._everything: set[ShapeId] = set()
        self._lookups: dict[tuple[KeyColumn, ...], _Lookup[ShapeId]] = {}
        self._residual: _Clauses[ShapeId] = _Clauses()

    def __len__(self) -> int:
        return len(self._predicates)

    @property
    def residual_clauses(self) -> int:
        """Number of distinct clauses that are evaluated for every row."""
        return len(self._residual.by_sql)

    def add(self, shape_id: ShapeId, predicate: Predicate | None) -> None:
        """Add a shape; without a predicate every row matches. After an error it is not in the index."""
        self._predicates[shape_id] = predicate
        try:
            self._add(shape_id, predicate)
        except BaseException:
            self.remove(shape_id)
            raise

    def _add(self, shape_id: ShapeId, predicate: Predicate | None) -> None:
        if predicate is None:
            self._everything.add(shape_id)
        elif predicate.plan is None:
            self._residual.add(shape_id, predicate)
        else:
            for term in predicate.plan:
                lookup = self._lookups.get(term.columns)
                if lookup is None:
                    lookup = self._lookups[term.columns] = _Lookup(term.columns)
                lookup.add(shape_id, term, predicate)

    def remove(self, shape_id: ShapeId) -> None:
        """Remove a shape. Raises KeyError if it was not added."""
        predicate = self._predicates.pop(shape_id)
        if predicate is None:
            self._everything.discard(shape_id)
        elif predicate.plan is None:
            self._residual.remove(shape_id, predicate)
        else:
            for term in predicate.plan:
                lookup = self._lookups.get(term.columns)
                if lookup is None:
                    continue
                lookup.remove(shape_id, term, predicate)
                if not lookup.buckets:
                    del self._lookups[term.columns]

    def verdicts(self, row: Row, evaluate: Evaluate) -> dict[ShapeId, bool | Exception]:
        """For every shape whether its clause is TRUE for the row, or what its evaluation raised. Slow."""
        by_sql: dict[str, bool | Exception] = {**self._meter.known(self, row)}
        found: dict[ShapeId, bool | Exception] = {}
        for shape_id, predicate in self._predicates.items():
            if predicate is None:
                found[shape_id] = True
                continue
            verdict = by_sql.get(predicate.sql)
            if verdict is None:
                verdict = by_sql[predicate.sql] = _verdict(predicate, row, evaluate)
            found[shape_id] = verdict
        return found

    def matching(self, row: Row) -> AbstractSet[ShapeId]:
        """The shapes whose clause is TRUE for the row. Valid until the index changes; do not modify it.

        Raises OutOfTime when the step is over, and what a clause raises.
        """
        found: list[AbstractSet[ShapeId]] = [self._everything] if self._everything else []
        for lookup in self._lookups.values():
            for key in lookup.keys(row):
                bucket = lookup.buckets.get(key)
                if bucket is not None:
                    if bucket.matching:
                        found.append(bucket.matching)
                    if bucket.conditional is not None:
                        found += self._meter.matching(self, bucket.conditional.by_sql, row)
        if self._residual.by_sql:
            found += self._meter.matching(self, self._residual.by_sql, row)
        if len(found) > 1:
            return found[0].union(*found[1:])  # type: ignore[attr-defined,no-any-return]
        return found[0] if found else _NO_SHAPES


def _verdict(predicate: Predicate, row: Row, evaluate: Evaluate) -> bool | Exception:
    try:
        try:
            return predicate.matches(row)
        except RecursionError:
            return evaluate(predicate.matches, row)
    except Exception as error:
        return error


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
