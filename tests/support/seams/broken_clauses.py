"""Clauses whose evaluation raises."""

from __future__ import annotations

from pgshapes.model.change import Row
from pgshapes.routing.router import Router


def break_clause(router: Router, handle: str, error: Exception) -> None:
    """Make the evaluation of a shape's clause raise."""
    shape = router._shapes[handle]
    assert shape.clause is not None
    predicate = shape.clause.compile(shape.relation)

    def matches(_: Row) -> bool:
        raise error

    predicate.matches = matches
    members = router._relations[shape.definition.table_oid]
    members._index_all()
