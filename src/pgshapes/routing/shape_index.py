"""Finds the shapes of one relation that a row belongs to, without evaluating every clause.

Equality clauses are looked up by value. The others are grouped by identical text, so that a thousand shapes
with the same clause need one evaluation. The result is exact. Pure; owned by the router.

A look-up that raises does not say for which shape. `verdicts` does, without the index: it evaluates every
distinct clause for itself.
"""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from typing import Any, Final, Generic, TypeVar

from pgshapes.model.change import Row
from pgshapes.routing.clause_groups import Clauses
from pgshapes.routing.failures import Evaluate
from pgshapes.routing.lookups import Lookup
from pgshapes.routing.metering import Meter, OutOfTime, is_large
from pgshapes.where.clause import Predicate
from pgshapes.where.index_plan import KeyColumn

ShapeId = TypeVar("ShapeId", bound=Hashable)

_NO_SHAPES: Final[AbstractSet[Any]] = frozenset()


class ShapeIndex(Generic[ShapeId]):
    """The shapes of one relation by their clauses."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._predicates: dict[ShapeId, Predicate | None] = {}
        self._everything: set[ShapeId] = set()
        self._lookups: dict[tuple[KeyColumn, ...], Lookup[ShapeId]] = {}
        self._residual: Clauses[ShapeId] = Clauses()

    def __len__(self) -> int:
        return len(self._predicates)

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
                    lookup = self._lookups[term.columns] = Lookup(term.columns)
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
                if not lookup:
                    del self._lookups[term.columns]

    def verdicts(self, row: Row, evaluate: Evaluate) -> dict[ShapeId, bool | Exception]:
        """For every shape whether its clause is TRUE for the row, or what its evaluation raised. Slow.

        Raises OutOfTime when the step is over; the next call goes on.
        """
        by_sql = self._meter.judged(self, row)
        found: dict[ShapeId, bool | Exception] = {}
        for shape_id, predicate in self._predicates.items():
            if predicate is None:
                found[shape_id] = True
                continue
            if predicate.sql not in by_sql:
                by_sql[predicate.sql] = self._meter.judge(predicate, row, evaluate)
                if self._meter.is_step_over():
                    raise OutOfTime
            found[shape_id] = by_sql[predicate.sql]
        return found

    def matching(self, row: Row) -> AbstractSet[ShapeId]:
        """The shapes whose clause is TRUE for the row. Valid until the index changes; do not modify it.

        Raises OutOfTime when the step is over, and what a clause raises.
        """
        found: list[AbstractSet[ShapeId]] = [self._everything] if self._everything else []
        meter = self._meter
        reads_much = meter.may_be_large and bool(self._lookups) and is_large(row)
        for lookup in self._lookups.values():
            for bucket in meter.find(lookup, row) if reads_much else lookup.find(row):
                if bucket.matching:
                    found.append(bucket.matching)
                if bucket.conditional is not None:
                    found += meter.matching(self, bucket.conditional, row)
        if self._residual.by_sql:
            found += meter.matching(self, self._residual, row)
        if len(found) > 1:
            return found[0].union(*found[1:])  # type: ignore[attr-defined,no-any-return]
        return found[0] if found else _NO_SHAPES
