"""Batches of clauses have all groups, in their order, and a bounded cost."""

from __future__ import annotations

import pytest
from tests.support.seams.routing_samples import ITEMS

from pgshapes.routing import clause_groups
from pgshapes.routing.clause_groups import BATCH_NS, Clauses
from pgshapes.where.clause import Predicate, clause_from_sql


def _predicate(where: str) -> Predicate:
    return clause_from_sql(where, ITEMS).compile(ITEMS)


def _shapes(clauses: Clauses[str]) -> list[list[set[str]]]:
    return [[shapes for _, shapes in batch] for batch in clauses.batches or clauses.make_batches()]


def test_batches_follow_changes() -> None:
    """A shape that comes or goes is in the batches, with a clause of its own or that of another."""
    clauses: Clauses[str] = Clauses()
    clauses.add("a", _predicate("grade > 1"))
    assert _shapes(clauses) == [[{"a"}]]
    clauses.add("b", _predicate("grade > 2"))
    assert _shapes(clauses) == [[{"a"}, {"b"}]]
    clauses.add("c", _predicate("grade > 1"))
    assert _shapes(clauses) == [[{"a", "c"}, {"b"}]]
    clauses.remove("b", _predicate("grade > 2"))
    clauses.remove("a", _predicate("grade > 1"))
    assert _shapes(clauses) == [[{"c"}]]
    clauses.remove("unknown", _predicate("grade > 9"))
    clauses.remove("c", _predicate("grade > 1"))
    assert _shapes(clauses) == []


def test_a_batch_takes_no_longer_than_one_clause_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cheap clauses are together, expensive ones apart; the order is that of the groups."""
    clauses: Clauses[int] = Clauses()
    expensive = "title LIKE '%" + "_a" * 300 + "b{}%'"
    texts = [f"title LIKE '%{number}%'" for number in range(400)] + [
        expensive.format(number) for number in range(8)
    ]
    predicates = [_predicate(text) for text in texts]
    for number, predicate in enumerate(predicates):
        clauses.add(number, predicate)
    sizes = []
    numbers = []
    for batch in clauses.make_batches():
        members = [number for _, shapes in batch for number in shapes]
        total_ns = sum(predicates[number].cost.ns for number in members)
        assert total_ns <= BATCH_NS
        sizes.append(len(members))
        numbers += members
    assert numbers == list(range(408))
    assert sizes[0] > 100 and sizes[-1] < 4
    monkeypatch.setattr(clause_groups, "BATCH_NS", 1.0)
    assert [len(batch) for batch in clauses.make_batches()] == [1] * 408, "none is left out"
