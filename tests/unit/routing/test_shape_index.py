"""The index returns exactly the shapes whose clause is TRUE."""

from __future__ import annotations

import random

from tests.support.postgres.where_tables import RELATION, row

from pgshapes.routing.metering import Meter
from pgshapes.routing.shape_index import ShapeIndex
from pgshapes.where.clause import Predicate, clause_from_sql


def predicate(text: str) -> Predicate:
    return clause_from_sql(text, RELATION).compile(RELATION)


CLAUSES = [
    "i4 = 1",
    "i4 = 2 AND t = 'a'",
    "i4 IN (1, 2, 3) AND t IN ('a', 'b')",
    "i4 = 1 AND i8 > 5",
    "i4 = 1 OR i4 = 3",
    "i4 = 1 OR t = 'b'",
    "i4 = 1 OR i8 > 5",
    "t LIKE 'a%'",
    "t LIKE 'a%' AND i4 = 2",
    "b",
    "NOT b",
    "b IS NULL",
    "j IS NULL",
    "i4 = 1 AND j IS NULL",
    "j IS NULL OR i4 = 2",
    "j IS NOT DISTINCT FROM NULL",
    "n IS NULL",
    "n IS NULL OR n = 1.5",
    "n IS NULL AND n = 1.5",
    "ta IS NULL",
    "ta IS NULL AND 'x' = ANY (ta)",
    "bp IS NULL AND f8 IS NULL",
    "n = 1.5",
    "n = 1.50 AND i4 = 1",
    "f8 = 0",
    "'x' = ANY (ta)",
    "'x' = ANY (ta) AND i4 = 1",
    "'x' = ANY (ta) AND 'y' = ANY (ta)",
    "i4 = 1 AND i4 = 2",
    "i4 = NULL",
    "false",
    "true",
    "i4 IS NOT DISTINCT FROM 2",
    "i4 IS NOT DISTINCT FROM NULL::int4 + 1",
    "(NULL::int4 + 1) IS NOT DISTINCT FROM i4",
    "j IS NOT DISTINCT FROM NULL::jsonb -> 'a'",
    "b IS NOT DISTINCT FROM (NULL::int4 = 1)",
    "i4 = 1 AND i8 IS NOT DISTINCT FROM NULL::int8 - 1",
    "(i4 = 1 OR t = 'a') AND (i8 = 1 OR b)",
    "i4 IN (1, 2) AND i8 IN (" + ",".join(map(str, range(2000))) + ")",
]


def random_row(pick: random.Random) -> tuple[str | None, ...]:
    values = {
        "i4": ["1", "2", "3", None],
        "i8": ["1", "6", None],
        "t": ["a", "b", "ab", None],
        "b": ["t", "f", None],
        "n": ["1.5", "1.500", "2", None],
        "f8": ["0", "-0", "1", None],
        "j": ['{"a": {"b": []}}', "[]", "null", None],
        "bp": ["a   ", None],
        "ta": ["{x,y}", "{x}", "{}", "{NULL,y}", None],
    }
    chosen = {name: pick.choice(texts) for name, texts in values.items()}
    return row(**{name: text for name, text in chosen.items() if text is not None})


def test_the_index_agrees_with_each_predicate() -> None:
    """Also while shapes are added and removed, with many shapes per clause."""
    pick = random.Random(7)
    index: ShapeIndex[int] = ShapeIndex(Meter())
    predicates: dict[int, Predicate | None] = {}
    made = [predicate(text) for text in CLAUSES]
    for step in range(1500):
        shape = pick.randrange(120)
        if shape in predicates:
            index.remove(shape)
            del predicates[shape]
        else:
            predicates[shape] = None if pick.random() < 0.05 else pick.choice(made)
            index.add(shape, predicates[shape])
        if step % 5 == 0:
            given = random_row(pick)
            expected = {one for one, judge in predicates.items() if judge is None or judge.matches(given)}
            assert set(index.matching(given)) == expected
    for shape in list(predicates):
        index.remove(shape)
    assert len(index) == 0
    assert not index._lookups
    assert not index._residual.by_sql


def test_equal_residual_clauses_are_evaluated_once() -> None:
    """A thousand shapes, one evaluation."""
    index: ShapeIndex[int] = ShapeIndex(Meter())
    for shape in range(1000):
        index.add(shape, predicate("t LIKE '%a%'"))
    assert len(index._residual.by_sql) == 1
    assert len(index.matching(row(t="bab"))) == 1000
    assert not index.matching(row(t="b"))


def test_equality_clauses_are_not_evaluated() -> None:
    """Clauses with different values share one look-up."""
    index: ShapeIndex[int] = ShapeIndex(Meter())
    for shape in range(200):
        index.add(shape, predicate(f"i4 = {shape} AND t = 'a'"))
    assert len(index._residual.by_sql) == 0
    assert len(index._lookups) == 1
    assert index.matching(row(i4="7", t="a")) == {7}
    assert index.matching(row(i4="7", t="b")) == set()
