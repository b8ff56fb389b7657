"""The clause of a subset: that of a shape without subqueries, plus what only Postgres evaluates exactly."""

from __future__ import annotations

import pytest
from tests.support.postgres.where_tables import RELATION

from pgshapes.errors import RequestError
from pgshapes.where.clause import PreparedClause, prepare_clause, prepare_subset_clause

ALL = tuple(RELATION.column_index)


def prepare(text: str, queryable: tuple[str, ...] = ALL, **params: str) -> PreparedClause:
    values = {key.removeprefix("p"): value for key, value in params.items()}
    return prepare_subset_clause(text, values, RELATION, queryable=queryable)


def sql(text: str, **params: str) -> str:
    prepared = prepare(text, ALL, **params)
    return prepared.confirm([expr.type.oid for expr in prepared._described]).sql


def errors(text: str, queryable: tuple[str, ...] = ALL, **params: str) -> dict[str, list[str]]:
    with pytest.raises(RequestError) as refused:
        prepare(text, queryable, **params)
    errors: dict[str, list[str]] = refused.value.errors
    return errors


def test_it_is_rebuilt_from_its_tree() -> None:
    assert sql("t = $1 /* x */ OR i4 > 5 -- )", p1="it's \\ ' OR true --") == (
        "((\"t\" = E'it''s \\\\ '' OR true --'::text) OR (\"i4\" > '5'::int4))"
    )


def test_what_only_postgres_orders_is_its_business() -> None:
    with pytest.raises(RequestError):
        prepare_clause("w > 'a'", {}, RELATION)
    assert sql("w > 'a'") == "(\"w\" > 'a'::text)"
    assert sql("w ILIKE $1", p1="%A") == "(\"w\" ~~* '%A'::text)"


def test_literals_of_enums_are_the_servers_to_judge() -> None:
    assert "'no such mood')" in sql("mood = $1", p1="no such mood")


@pytest.mark.parametrize(
    "text",
    [
        "i4 IN (SELECT 1)",
        "i4 = (SELECT max(i4) FROM things)",
        "EXISTS (SELECT 1)",
        "i4 = ANY (SELECT 1)",
        "b AND CASE WHEN t = (SELECT version()) THEN true ELSE false END",
        "pg_sleep((SELECT 1)) IS NULL",
    ],
)
def test_subqueries_are_never_allowed(text: str) -> None:
    assert errors(text) == {"where": ["Subqueries are not allowed in subsets"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("true; DROP TABLE things", 'unescaped ";" causing statement split'),
        ("true) OR (true", "syntax error"),
        ("true ORDER BY 1", "malformed query ending with SQL clauses"),
        ("true LIMIT 1", "malformed query ending with SQL clauses"),
        ("true FOR UPDATE", "malformed query ending with SQL clauses"),
        ("true UNION SELECT false", "malformed query ending with SQL clauses"),
        ("pg_sleep(9) IS NULL", "pg_sleep"),
        ("pg_read_file('x') = 'y'", "pg_read_file"),
        ("i4", "WHERE clause must return a boolean"),
        ("$2 = i4", "parameter $2 was not provided"),
    ],
)
def test_what_no_clause_may_be(text: str, said: str) -> None:
    (refusals,) = errors(text, p1="x").values()
    assert said in refusals[0]


def test_only_queryable_columns() -> None:
    assert errors("i4 = 1 AND t = 'x'", ("i4",)) == {"where": ["At location 11: unknown reference t"]}


def test_parameters_are_numbered() -> None:
    assert errors("i4 = $1", p1="1", p3="2") == {
        "params": ["Parameters must be numbered sequentially, starting from 1"]
    }
