"""`order_by` becomes names and flags; all but plain columns is refused."""

from __future__ import annotations

import pytest
from tests.support.postgres.where_tables import RELATION

from pgshapes.errors import RequestError
from pgshapes.where.language.sort_order import MAX_TERMS, SortTerm, parse_order_by

ALL = tuple(RELATION.column_index)


def parse(text: str, queryable: tuple[str, ...] = ALL) -> tuple[SortTerm, ...]:
    return parse_order_by(text, RELATION, queryable=queryable)


def refusal(text: str, queryable: tuple[str, ...] = ALL) -> str:
    with pytest.raises(RequestError) as refused:
        parse(text, queryable)
    assert refused.value.errors.keys() == {"order_by"}
    (said,) = refused.value.errors["order_by"]
    return str(said)


def test_directions_and_nulls() -> None:
    assert parse('i4, "t" ASC, i8 desc, n NULLS FIRST, b DESC NULLS LAST') == (
        SortTerm("i4", False, None),
        SortTerm("t", False, None),
        SortTerm("i8", True, None),
        SortTerm("n", False, True),
        SortTerm("b", True, False),
    )


def test_comments_and_blanks_mean_nothing() -> None:
    assert parse(" i4 /* ; DROP TABLE x */ DESC -- , pg_sleep(9)") == (SortTerm("i4", True, None),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CAST((SELECT version()) AS int) DESC", "At location 0: TypeCast expressions"),
        ("(SELECT count(*) FROM pg_tables)", "At location 0: SubLink expressions"),
        ("i4, pg_sleep(9)", "At location 4: FuncCall expressions"),
        ("i4, 1", "At location 4: A_Const expressions"),
        ("'i4'", "At location 0: A_Const expressions"),
        ("i4 + 1", "A_Expr expressions"),
        ('t COLLATE "C"', "CollateClause expressions"),
        ("ia[1]", "A_Indirection expressions"),
        ("CASE WHEN b THEN 1 END", "CaseExpr expressions"),
        ("(i4, i8)", "RowExpr expressions"),
    ],
)
def test_expressions(text: str, said: str) -> None:
    assert said in refusal(text)
    assert refusal(text).endswith("expressions are not allowed in ORDER BY clauses")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$1", "At location 0: parameter $1 is not supported in ORDER BY clauses"),
        ("i4; DROP TABLE things", "Unexpected `;` in order by"),
        ("i4; SELECT 1 ORDER BY i4", "Unexpected `;` in order by"),
        ("i4 LIMIT 1", "malformed query ending with SQL clauses"),
        ("i4 FOR UPDATE", "malformed query ending with SQL clauses"),
        ("i4 OFFSET 1", "malformed query ending with SQL clauses"),
        ("i4 UNION SELECT 1", 'syntax error at or near "UNION"'),
        ("i4 USING >", "USING is not supported in ORDER BY clauses"),
        ("i4)", 'syntax error at or near ")"'),
        ("i4,", "syntax error at end of input"),
        ("i4 /*", "unterminated /* comment"),
        ("nowhere", "At location 0: unknown reference nowhere"),
        ("i4, Things", "At location 4: unknown reference things"),
        ("ctid", "unknown reference ctid"),
        ("things.i4", "unknown reference things.i4"),
        ("things.*", "unknown reference things.*"),
        ("things", "unknown reference things"),
        ("i4\0", "ORDER BY must not contain NUL characters"),
        ("\ud800", "ORDER BY is not valid UTF-8"),
        (", ".join(["i4"] * (MAX_TERMS + 1)), f"ORDER BY has more than {MAX_TERMS} parts"),
        ("i4" + " " * 70_000, "ORDER BY is longer than 65536 bytes"),
    ],
)
def test_what_is_no_list_of_columns(text: str, said: str) -> None:
    assert said in refusal(text)


def test_only_queryable_columns() -> None:
    assert parse("i4", ("i4",)) == (SortTerm("i4", False, None),)
    assert refusal("i4, i8", ("i4",)) == "At location 4: unknown reference i8"
