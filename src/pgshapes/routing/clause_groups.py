"""Groups shapes by the text of their clause, and the groups into batches. Pure; owned by the index.

A batch is evaluated for a row without a look at the clock in between, so what all of its clauses may take
together is bounded when it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from pgshapes.model.change import Row
from pgshapes.where.clause import Predicate
from pgshapes.where.cost import MAX_NS

ShapeId = TypeVar("ShapeId")

BATCH_NS: Final = MAX_NS
"""What the clauses of a batch may take for each character of a row, in the worst case: as much as one clause
may, which is 0.1 s for a row that is not large. Nearly all take a hundredth of it.
"""
_CALL_NS: Final = 10.0
"""Counted for each clause, whatever the row: what takes no time by the row's size takes some."""


class Group:
    """Shapes with the same clause, and the time that it took."""

    __slots__ = ("cost", "matches", "shapes", "spent_at_s", "spent_s")

    def __init__(self, predicate: Predicate) -> None:
        self.matches = predicate.matches
        self.cost = predicate.cost
        self.shapes: set[Any] = set()
        self.spent_s = 0.0
        """Time taken, less what was allowed since; at the time `spent_at_s`."""
        self.spent_at_s = 0.0


Groups = dict[str, Group]
"""By clause."""
Batch = list[tuple[Callable[[Row], bool], set[Any]]]
"""For each clause what evaluates it, and its shapes."""


class Clauses(Generic[ShapeId]):
    """Groups of shapes by the text of their clause."""

    __slots__ = ("batches", "by_sql")

    def __init__(self) -> None:
        self.by_sql: Groups = {}
        self.batches: list[Batch] = []
        """All groups, in their order; empty after a change, until `make_batches`."""

    def add(self, shape_id: ShapeId, predicate: Predicate) -> None:
        """Add a shape with this clause."""
        group = self.by_sql.get(predicate.sql)
        if group is None:
            self.batches = []
            group = self.by_sql[predicate.sql] = Group(predicate)
        group.shapes.add(shape_id)

    def remove(self, shape_id: ShapeId, predicate: Predicate) -> None:
        """Remove a shape; nothing happens if it was not added."""
        group = self.by_sql.get(predicate.sql)
        if group is None:
            return
        group.shapes.discard(shape_id)
        if not group.shapes:
            self.batches = []
            del self.by_sql[predicate.sql]

    def make_batches(self) -> list[Batch]:
        """Make the batches, and return them."""
        parts = in_batches(self.by_sql.items())
        self.batches = [[(group.matches, group.shapes) for _, group in part] for part in parts]
        return self.batches


def in_batches(groups: Iterable[tuple[str, Group]]) -> list[list[tuple[str, Group]]]:
    """Groups with their clauses, so that each part takes no longer than one clause may; in their order."""
    parts: list[list[tuple[str, Group]]] = []
    room_ns = 0.0
    for clause, group in groups:
        cost_ns = group.cost.ns + _CALL_NS
        if cost_ns > room_ns:
            parts.append([])
            room_ns = BATCH_NS
        parts[-1].append((clause, group))
        room_ns -= cost_ns
    return parts
