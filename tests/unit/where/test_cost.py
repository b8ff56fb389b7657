"""The bound on the cost of a clause: which clauses are refused, and what is counted once."""

from __future__ import annotations

import pytest
from tests.support.postgres.where_tables import RELATION

from pgshapes.errors import RequestError
from pgshapes.where.clause import prepare_clause
from pgshapes.where.cost import MAX_NS, Cost


def _cost(text: str) -> Cost:
    prepared = prepare_clause(text, {}, RELATION)
    return prepared._clause.compile(RELATION).cost


def _case(levels: int) -> str:
    text = "t LIKE '%a_b%'"
    for _ in range(levels):
        text = f"CASE WHEN t LIKE '%a_b%' THEN true ELSE {text} END"
    return text


_ALLOWED = {
    "words": " OR ".join(f"t LIKE '%word{number}%'" for number in range(400)),
    "words of any case": " OR ".join(f"t ILIKE '%word{number}%'" for number in range(100)),
    "patterns": " OR ".join(f"t LIKE '%a{number}%b%'" for number in range(100)),
    "any character": f"t LIKE '%{'_' * 20_000}b%'",
    "any character at the end": f"t LIKE '%{'_a' * 5_000}b'",
    "fields": " OR ".join(f"j->'k'->>'x{number}' = 'y'" for number in range(120)),
    "items": " AND ".join(["i8 <> ALL(ia)"] * 300),
    "containment": f"j @> '{list(range(8_000))}'",
    "case": _case(25),
    "values": f"i4 IN ({', '.join(map(str, range(5_000)))})",
    "columns": " AND ".join(["j @> '{}'", "t LIKE '%a%b%'", "'x' = ANY (ta)", "1 = ANY (ia)", "n > 5"]),
}


@pytest.mark.parametrize("text", _ALLOWED.values(), ids=_ALLOWED)
def test_clauses_of_many_parts_are_allowed(text: str) -> None:
    """Each column is read once, and each item of an array collected once."""
    assert 0 < _cost(text).ns <= MAX_NS


def _doubled(text: str, times: int) -> str:
    for _ in range(times):
        text = f"({text} || {text})"
    return text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f"t LIKE '%{'_a' * 5_000}b%'", '("t" ~~ '),
        (" AND ".join(["i8 < ALL (ia)"] * 300), '"ia"'),
        (" OR ".join(f"t LIKE '%a{'a' * 12}%b{number}%'" for number in range(200)), '("t" ~~ '),
        (f"t LIKE ANY ('{{{','.join(f'%aaaaaaa%b{number}%' for number in range(300))}}}')", "ANY"),
        (f"length({_doubled('t', 9)}) = 1", "||"),
        (" OR ".join(f"upper(t) = 'A{number}'" for number in range(50)), '"upper"('),
        (" OR ".join(f"j @> '[{number}]'" for number in range(200)), '"j"'),
    ],
)
def test_a_clause_that_may_take_too_long_is_refused(text: str, part: str) -> None:
    """The error says how long it may take and which part takes most."""
    with pytest.raises(RequestError) as refused:
        prepare_clause(text, {}, RELATION)
    (said,) = refused.value.details["errors"]["where"]
    assert "s for a row of a million characters, and 5 s are allowed" in said
    assert part in said
    assert len(said) < 400


def test_the_cost_is_that_of_the_costliest_column() -> None:
    """A row has its characters once, so columns do not add up."""
    both = _cost("t LIKE '%a%b%' AND v LIKE '%a%b%'")
    assert both.ns == _cost("t LIKE '%a%b%'").ns
    assert both.ns < _cost("t LIKE '%a%b%' AND t LIKE '%b%a%'").ns
