"""Clauses from text to predicate; their identity; what the server is asked."""

from __future__ import annotations

import pytest
from tests.support.postgres.where_tables import RELATION, column, row

from pgshapes.errors import RequestError
from pgshapes.model.relation import TypeDetail
from pgshapes.where.clause import Clause, clause_from_sql, prepare_clause

TEN = row(
    i2="1",
    i4="5",
    i8="10",
    n="1.50",
    f8="NaN",
    b="t",
    t="Foo\nbar",
    v="x",
    bp="ab   ",
    u="00000000-0000-0000-0000-000000000001",
    d="2024-02-29",
    tm="12:30:00",
    ts="2024-01-01 00:00:00",
    tz="2024-01-01 00:00:00+00",
    iv="P1M",
    ta="{a,b,NULL}",
    mood="happy",
    age="7",
)


def clause(text: str, **params: str) -> Clause:
    prepared = prepare_clause(text, {key.removeprefix("p"): value for key, value in params.items()}, RELATION)
    return prepared.confirm([expr.type.oid for expr in prepared._described])


def matches(text: str, **params: str) -> bool:
    made = clause(text, **params)
    predicate = made.compile(RELATION)
    again = clause_from_sql(made.sql, RELATION)
    assert clause(made.sql).sql == again.sql == made.sql
    assert again.compile(RELATION).matches(TEN) == predicate.matches(TEN)
    return predicate.matches(TEN)


TRUE = [
    "i8 = 10",
    "i8 = '10' AND i4 IN (4, 5)",
    "i4 IN ($1, '5')",
    "i4 NOT IN (1, 2)",
    "i4 = ANY ('{4,5}')",
    "i4 BETWEEN 5 AND $1",
    "i4 BETWEEN SYMMETRIC 7 AND 3",
    "i4 NOT BETWEEN 6 AND 7",
    "n = 1.5",
    "n IN (1.5, 2)",
    "f8 = 'NaN' AND f8 > 1e308",
    "b AND b IS TRUE AND NOT (b IS FALSE)",
    "t ILIKE '%foo_bar'",
    "t LIKE 'Foo%' AND t LIKE '%bar' AND t LIKE '%o%' AND t NOT LIKE 'foo%'",
    "t ^@ 'Foo' AND t ^@ '' AND NOT t ^@ 'foo' AND (w ^@ 'x') IS NULL AND 'y' ^@ v IS FALSE",
    "t < 'g' COLLATE \"C\"",
    "w COLLATE \"C\" < 'g' IS NULL",
    "bp = 'ab' AND bp LIKE 'ab   '",
    "u IN ('00000000000000000000000000000001', NULL)",
    "d BETWEEN '2024-01-01' AND '2024-03-01'",
    "d < tz IS FALSE",
    "tz >= '2024-01-01T02:00:00+02:00'",
    "iv = '30 days' AND iv < interval '1 mon 1 day'",
    "'a' = ANY (ta)",
    "ta[1] = 'a'",
    "mood = 'happy' AND mood IN ('happy', 'sad') AND mood::text LIKE 'h%'",
    "mood = ANY (ARRAY[mood, 'sad']) AND mood IN ('sad', mood)",
    "age = 7 AND age > 6",
    "w IS NULL AND i2 IS NOT NULL AND i2 IS DISTINCT FROM NULL AND i2 IS NOT DISTINCT FROM 1",
    "COALESCE(w COLLATE \"C\", 'x') = v",
    "i4 + i8 * 2 - 5 = 20 AND -i4 < -4 AND i4 / 2 = 2 AND i4 % 3 = 2",
    "CASE WHEN i4 = 5 THEN b ELSE false END",
    "CASE i4 WHEN 1 THEN false WHEN 5 THEN true END",
    "(i4 / 0 < NULLIF(NULL, i4)) IS NULL AND NULLIF(i4, NULL) = 5",
    "NULLIF(i4, 5) IS NULL AND GREATEST(i4, 7) = 7 AND LEAST(i4, NULL) = 5",
    "lower(t) = E'foo\\nbar' AND t || 'x' LIKE '%rx'",
    "i4::text = '5' AND i4::bool",
    "true",
    "NOT (i4 = 6 OR w = 'x') IS TRUE",
    "(i4 = 5) = (i8 = 10)",
    "i4 = 5;",
]


@pytest.mark.parametrize("text", TRUE)
def test_a_clause_that_is_true(text: str) -> None:
    """Every form of the language, also after parsing its own SQL."""
    assert matches(text, **({"p1": "5"} if "$1" in text else {}))


NOT_TRUE = [
    "i8 = 11",
    "w = 'x'",
    "NOT w = 'x'",
    "i4 NOT IN (1, NULL)",
    "i4 IN (1, NULL)",
    "i4 = NULL",
    "i4 / 0 = 1",
    "NOT (i4 / 0 = 1)",
    "i4 + 2147483647 > 0",
    "i2 = ANY ('{}')",
    "t LIKE 'foo%'",
    "b AND w = 'x'",
    "false AND 1/0 = 1",
    "NULL",
]


@pytest.mark.parametrize("text", NOT_TRUE)
def test_a_clause_that_is_false_or_null_or_an_error(text: str) -> None:
    """FALSE, NULL and an error at run time: the row does not match."""
    assert not matches(text)


REFUSED = {
    "1 x 1": 'At location 17: syntax error at or near "x"',
    "i4 = 1; SELECT 2": 'unescaped ";" causing statement split',
    "i4 = 1 LIMIT 1": "malformed query ending with SQL clauses",
    "i4 = 1 UNION SELECT 2": "malformed query ending with SQL clauses",
    "i4": "WHERE clause must return a boolean",
    "x = 1": "At location 0: unknown reference x",
    "things.i4 = 1": "At location 0: unknown reference things.i4",
    "ctid = '(0,1)'": "At location 0: unknown reference ctid",
    "i4 = 'a'": "At location 5: invalid syntax for type int4: a",
    "i4 = t": "At location 3: Could not select an operator overload",
    "i4 ~~~ 1": "At location 3: unknown binary operator ~~~",
    "i4 = $1": "At location 5: parameter $1 was not provided",
    "i4 IN (SELECT 1)": "At location 3: subqueries are not supported yet",
    "now() > tz": "At location 0: unknown or unsupported function now/0",
    "current_date = d": "At location 0: only immutable functions are supported in this context",
    "pg_sleep(1) IS NULL": "At location 0: unknown or unsupported function pg_sleep/1",
    "count(*) = 1": "At location 0: aggregation is not supported in this context",
    "i4 = ANY (5)": "At location 3: argument of ANY must be an array",
    "i4 IS TRUE": "At location 0: argument of IS TRUE must be bool, not int4",
    "x'ff' = b'1'": "At location 0: BitString values are not supported",
    "i4::point IS NULL": "At location 4: unsupported type point",
    "pair IS NULL": "At location 5: IS NULL of a composite value is not supported",
    "ip = '10.0.0.1'": "At location 3: operator = (inet, inet) is not supported in this context",
    "1/0 = 1": "At location 1: Failed to apply function to constant arguments: division by zero",
    "w < 'a'": 'At location 2: text is only ordered by the collation "C", not by "en_US.UTF-8": '
    'write … COLLATE "C"',
    "t LIKE 'a\\'": "At location 2: LIKE pattern must not end with escape character",
    "d = 'yesterday'": "At location 4: invalid syntax for type date: yesterday",
    "ROW(i4, i8) = ROW(1, 2)": "At location 12: row comparisons are not supported in this context",
    "t = 'a' COLLATE \"de_DE\"": 'At location 8: collation "de_DE" is not supported, '
    'only "C" and "POSIX" are',
    "mood < 'sad'": "At location 5: operator < (mood, mood) is not supported in this context",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_clause_that_is_refused(text: str) -> None:
    """The field, the position in the client's text, and the reason."""
    with pytest.raises(RequestError) as caught:
        clause(text)
    assert caught.value.errors == {"where": [REFUSED[text]]}


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"a": "1"}, "Parameters can only use numbers as keys"),
        ({"2": "1"}, "Parameters must be numbered sequentially, starting from 1"),
        ({"1": "1", "01": "1"}, "Parameters must be numbered sequentially, starting from 1"),
        ({"1": "a\0b"}, "Parameters must not contain NUL characters"),
    ],
)
def test_parameters_that_are_refused(params: dict[str, str], reason: str) -> None:
    """They are about the field `params`."""
    with pytest.raises(RequestError) as caught:
        prepare_clause("true", params, RELATION)
    assert caught.value.errors == {"params": [reason]}


def test_a_parameter_has_the_type_of_its_first_use() -> None:
    """A later use with another type compares two types."""
    assert clause("i4 = $1 AND i8 = $1", p1="7").sql == "((\"i4\" = '7'::int4) AND (\"i8\" = '7'::int4))"
    with pytest.raises(RequestError) as caught:
        clause("$1 = $1 AND i4 = $1", p1="7")
    assert "Could not select an operator overload" in caught.value.errors["where"][0]


def test_equal_clauses_have_equal_sql() -> None:
    """Whatever the form of literals, blanks, case and parameters."""
    texts = ["i4 = 5", "I4   = '5'", '"i4" = 5::int4', "(i4 = CAST(' 5 ' AS integer))", "i4 = $1"]
    assert {clause(text, **({"p1": "5"} if "$1" in text else {})).sql for text in texts} == {
        "(\"i4\" = '5'::int4)"
    }


def test_numbers_have_the_smallest_type_from_int4_on() -> None:
    """Also the least int4, which the grammar gives as text."""
    expected = {"-2147483648": "int4", "2147483648": "int8", "-9223372036854775809": "numeric"}
    for number, kind in expected.items():
        assert clause(f"i4 = {number}").sql.endswith(f"'{number}'::{kind})")


def test_only_queryable_columns_may_be_used() -> None:
    """A column outside the list is unknown."""
    prepare_clause("i4 = 5", {}, RELATION, queryable={"i4"})
    with pytest.raises(RequestError, match="Invalid request"):
        prepare_clause("i8 = 5", {}, RELATION, queryable={"i4"})


def test_the_server_is_asked_for_the_clause_its_columns_and_its_steps() -> None:
    """A type that the server describes differently is refused."""
    prepared = prepare_clause("lower(t) = 'a' AND i4 + i8 > 5 AND age = 1", {}, RELATION)
    assert prepared.authority_sql.startswith('SELECT ((pg_catalog."lower"("t") = \'a\'::text) AND ')
    assert prepared.authority_sql.endswith(' FROM "public"."things"')
    described = [expr.type.oid for expr in prepared._described]
    assert described[0] == 16
    assert sorted(described[1:]) == [20, 20, 23, 23, 25, 25]
    assert prepared.confirm(described).columns == {"t", "i4", "i8", "age"}
    with pytest.raises(RequestError):
        prepared.confirm([*described[:-1], 1043])
    with pytest.raises(RequestError):
        prepared.confirm(described[:-1])


@pytest.mark.parametrize(
    "text",
    [
        "i4 = " + "1" * 100_000,
        "i4 IN (" + ",".join("1" * 9 for _ in range(10_000)) + ")",
        "NOT " * 10_000 + "b",
        "i4 " + "+1" * 20_000 + " = 1",
        "(" * 5_000 + "b" + ")" * 5_000 + " AND i4 = 'x'",
        "b" + "::bool" * 5_000,
        "-" * 3 + " i4" * 20_000,
        "coalesce(" * 60 + "b" + ")" * 60,
        "ARRAY[" * 50 + "1" + "]" * 50 + " = ia",
        "b OR " * 15_000 + "b",
    ],
)
def test_what_is_too_long_or_too_deep_is_refused(text: str) -> None:
    """With a RequestError, never an error of the interpreter."""
    with pytest.raises(RequestError):
        clause(text)


def test_the_deepest_clause_that_is_taken_compiles() -> None:
    """Python's parser accepts the source of clauses at the limits."""
    sums = "i4" + " + i4" * 36 + " > 0"
    assert matches(sums)
    assert matches("NOT (" * 18 + "b IS TRUE" + ")" * 18)
    assert matches("coalesce(" * 36 + "i4" + ", 1)" * 36 + " = 5")
    assert matches(" AND ".join(["i4 = 5"] * 400) + " AND i4 IN (" + ",".join(map(str, range(3000))) + ")")


def test_a_row_too_deep_for_us_is_an_error_and_does_no_harm() -> None:
    """It is evaluated again where the stack is larger (`owner.large_stack`)."""
    judge = clause("j @> '[[1]]'").compile(RELATION)
    deep = row(j="[" * 5_000 + "]" * 5_000)
    fits = row(j="[[1, 2]]")
    assert judge.matches(fits)
    with pytest.raises(RecursionError):
        judge.matches(deep)
    assert judge.matches(fits)


@pytest.mark.parametrize("base", [16_400, 600, 18], ids=["an extension's type", "point", "char"])
def test_a_domain_over_a_type_without_operations_can_be_compared_with_null(base: int) -> None:
    """Its clause can be read again from its own SQL, as every creation does."""
    domain = column("c", "text")._replace(type_name="d", type_kind="d", base_type_oid=base, collation=None)
    relation = RELATION._replace(columns=(domain,), primary_key=())
    prepared = prepare_clause("c IS NULL", {}, relation)
    assert prepared.confirm([16, base]).sql == clause_from_sql('("c" IS NULL)', relation).sql


def test_a_domain_over_a_composite_type_is_not_compared_with_null() -> None:
    """As for the type itself: a value with NULL in all its fields is NULL, and is not."""
    parts = (TypeDetail(16_400, "c", ((1, "a 23 -1"),)),)
    domain = column("c", "text")._replace(
        type_name="d", type_kind="d", base_type_oid=16_400, collation=None, type_details=parts
    )
    with pytest.raises(RequestError) as refused:
        prepare_clause("c IS NULL", {}, RELATION._replace(columns=(domain,), primary_key=()))
    assert "composite" in str(refused.value.errors)


@pytest.mark.parametrize("word", [" AND ", " OR "])
def test_a_clause_that_cannot_be_read_back_is_refused_when_it_is_made(word: str) -> None:
    """Its casts count once they are written out; its creation would fail each time, which is no 503."""
    text = word.join(["j->'k'->>'x' = 'y'"] * 300)
    with pytest.raises(RequestError) as refused:
        prepare_clause(text, {}, RELATION)
    assert refused.value.errors == {
        "where": ["WHERE clause has too many parts once all casts are written out; simplify it"]
    }
    prepare_clause(word.join(["j->'k'->>'x' = 'y'"] * 100), {}, RELATION)


@pytest.mark.parametrize("text", ["'sad' = ANY (ARRAY['ok', mood])", "mood = ANY (ARRAY['ok', mood, NULL])"])
def test_an_array_of_enums_can_be_read_back(text: str) -> None:
    sql = prepare_clause(text, {}, RELATION)._clause.sql
    assert clause_from_sql(sql, RELATION).compile(RELATION).sql == sql
