"""Draws definitions of shapes: with and without a list of columns, clauses, both replica modes."""

from __future__ import annotations

import random

from tests.oracle.ddl.catalog import Catalog, Column, Table, quoted
from tests.oracle.ddl.rules import CLAUSE_TYPES
from tests.oracle.ddl.shapes import Shape
from tests.oracle.ddl.values import value_for


def draw_shape(pick: random.Random, table: Table, catalog: Catalog) -> Shape:
    """A shape that the table can have, unless it has no key."""
    columns = None
    if pick.random() < 0.4 and table.key:
        others = [one.name for one in table.columns if one.name not in table.key and not one.generated]
        columns = (*table.key, *pick.sample(others, pick.randint(0, len(others))))
    elif table.key and any(one.generated for one in table.columns):
        columns = tuple(one.name for one in table.columns if not one.generated)
    where, reads = _clause(pick, table, catalog) if pick.random() < 0.4 else (None, ())
    return Shape(table.full_name, columns, where, reads, is_full=pick.random() < 0.3)


def _clause(pick: random.Random, table: Table, catalog: Catalog) -> tuple[str | None, tuple[str, ...]]:
    usable = [one for one in table.columns if _is_usable(one)]
    if not usable:
        return None, ()
    column = pick.choice(usable)
    name, value = quoted(column.name), value_for(pick, column, catalog, 1000 + pick.randint(1, 500))
    forms = [f"{name} IS NOT NULL", f"{name} <> {value}", f"{name} = {value}"]
    if column.kind == "e":
        forms.append(f"{name}::text <> {value}")
    elif column.base != "boolean":
        forms.append(f"{name} > {value}")
    return pick.choice(forms), (column.name,)


def _is_usable(column: Column) -> bool:
    return column.kind == "e" or (column.kind == "b" and column.base in CLAUSE_TYPES)
