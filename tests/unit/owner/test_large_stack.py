"""Rows that are nested too deeply for the stack of the main thread are evaluated all the same."""

from __future__ import annotations

import sys
import threading

import pytest
from tests.support.postgres.where_tables import RELATION, row

from pgshapes.model.change import Row
from pgshapes.owner.large_stack import evaluate_deeply
from pgshapes.where.clause import clause_from_sql
from pgshapes.where.types import large_values


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> None:
    """A document that is kept is not decoded again."""
    large_values.forget()
    large_values.keep(is_active=False)


def nested(depth: int, core: str = "") -> Row:
    return row(j="[" * depth + core + "]" * depth)


@pytest.mark.parametrize(
    ("where", "given", "matches"),
    [
        ("j <> '1'", nested(3_000), True),
        ("j @> '[[]]'", nested(6_000), True),
        ("j @> '[[1]]'", nested(6_000), False),
        ("j -> 0 ->> 0 LIKE '%7%'", nested(3_000, "7"), True),
        ("j = '[]' OR j ? 'a'", nested(6_000), False),
    ],
)
def test_a_row_that_is_nested_deeply_is_evaluated(where: str, given: Row, matches: bool) -> None:
    judge = clause_from_sql(where, RELATION).compile(RELATION)
    with pytest.raises(RecursionError):
        judge.matches(given)
    before = (sys.getrecursionlimit(), threading.stack_size())
    assert evaluate_deeply(judge.matches, given) is matches
    assert (sys.getrecursionlimit(), threading.stack_size()) == before


def test_what_is_too_deep_for_the_larger_stack_raises() -> None:
    judge = clause_from_sql("j <> '1'", RELATION).compile(RELATION)
    with pytest.raises(RecursionError):
        evaluate_deeply(judge.matches, nested(1_000_000))
