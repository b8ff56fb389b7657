"""Overloads are resolved as in the server: every operator over every pair of types."""

from __future__ import annotations

import psycopg

from pgshapes.where.language.overloads import UNKNOWN_TYPE, actual_types, find_operator, result_type
from pgshapes.where.pg_catalog import OPERATORS, TYPES_BY_NAME, PgType, enum_type

_NAMES = [
    *("bool", "int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar", "bpchar", "name"),
    *("uuid", "date", "time", "timestamp", "timestamptz", "interval", "bytea", "jsonb"),
    *("_int4", "_text", "_numeric", "_varchar"),
]


def _sql(kind: PgType) -> str:
    if kind == UNKNOWN_TYPE:
        return "NULL"
    return f"NULL::{kind.element.name}[]" if kind.element else f"NULL::{kind.name}"


def _ours(name: str, left: PgType | None, right: PgType) -> PgType | None:
    operator = find_operator(name, left, right)
    inputs = (right,) if left is None else (left, right)
    if operator is None or actual_types(operator.arguments, inputs) is None:
        return None
    return result_type(operator.result, operator.arguments, inputs)


_TYPE_OF = """
CREATE FUNCTION type_of(expression text) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE found int8;
BEGIN
  EXECUTE 'SELECT pg_typeof(' || expression || ')::oid::int8' INTO found;
  RETURN found;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$
"""


def test_every_operator_over_all_pairs_of_types(sql: psycopg.Connection) -> None:
    """The result has the server's type, and there is none where the server finds no operator."""
    sql.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    sql.execute(_TYPE_OF)
    row = sql.execute("SELECT oid::int8 FROM pg_type WHERE typname = 'mood'").fetchone()
    assert row is not None
    kinds = [*(TYPES_BY_NAME[one] for one in _NAMES), enum_type(row[0], "mood"), UNKNOWN_TYPE]
    ours = {
        f"{'' if left is None else _sql(left)} {name} {_sql(right)}": _ours(name, left, right)
        for name in OPERATORS
        for right in kinds
        for left in (None, *kinds)
    }
    asked = sql.execute("SELECT e, type_of(e) FROM unnest(%s::text[]) e", (list(ours),)).fetchall()
    differences = [
        (expression, ours[expression], theirs)
        for expression, theirs in asked
        if getattr(ours[expression], "oid", None) != theirs
    ]
    assert len(asked) > 10_000
    assert not differences
