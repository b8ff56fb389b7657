"""Literals have the server's meaning: every edge value and every unusual form, read and written."""

from __future__ import annotations

import random

import psycopg
import pytest
from tests.oracle.where_values import EDGES, ODD, SINCE_15, random_value

from pgshapes.where.pg_catalog import TYPES_BY_NAME
from pgshapes.where.types.operation import BadLiteral
from pgshapes.where.types.registry import type_io

_TEXT_OF = """
CREATE FUNCTION text_of(literal text, kind text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
  EXECUTE format('SELECT %L::%s', literal, kind) INTO found;
  RETURN found;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$
"""
_SETTINGS = "SET DateStyle = 'ISO, DMY'; SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'"
_MAY_BE_REFUSED = 0.75
"""The share of literals that must be accepted; the others have forms that depend on clock or settings."""


def _ours(kind: str, literal: str) -> str | None:
    io = type_io(TYPES_BY_NAME[kind])
    assert io is not None
    try:
        return io.write(io.read(literal))
    except BadLiteral:
        return None


def _same(kind: str, ours: str, theirs: str) -> bool:
    if kind == "bool":
        return ours == theirs[0]
    io = type_io(TYPES_BY_NAME[kind])
    assert io is not None
    if kind in ("float4", "float8"):
        return bool(io.decode(ours) == io.decode(theirs))
    return ours == theirs and io.write(io.decode(theirs)) == theirs


@pytest.mark.parametrize("kind", [kind for kind in EDGES if kind not in ("mood", "age", "bpchar")])
def test_literals_of_a_type(kind: str, sql: psycopg.Connection) -> None:
    """An accepted literal has the server's text; a literal that the server refuses is refused."""
    pick = random.Random(kind)
    literals = [*EDGES[kind], *ODD.get(kind, []), *(random_value(pick, kind) for _ in range(300))]
    of = TYPES_BY_NAME[kind]
    sql.execute(_TEXT_OF)
    sql.execute(_SETTINGS)
    shown = f"{of.element.name}[]" if of.element else kind
    asked = sql.execute("SELECT l, text_of(l, %s) FROM unnest(%s::text[]) l", (shown, literals)).fetchall()
    if kind == "interval" and sql.info.server_version < 170_000:
        asked = [pair for pair in asked if "infinity" not in pair[0]]
    if sql.info.server_version < 150_000:
        asked = [pair for pair in asked if pair[0] != SINCE_15]
    differences, refused = [], 0
    for literal, theirs in asked:
        ours = _ours(kind, literal)
        if ours is None:
            refused += theirs is not None
        elif theirs is None or not _same(kind, ours, theirs):
            differences.append((literal, ours, theirs))
    assert not differences
    assert refused <= (1 - _MAY_BE_REFUSED) * len(asked)
