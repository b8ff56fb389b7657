"""All operations by name, and which casts can be carried out. Immutable."""

from __future__ import annotations

from typing import Final

from pgshapes.where.catalogue import FLOAT4, FLOAT8, INTERVAL, TYPES, PgType
from pgshapes.where.operations.casts import cast_operations
from pgshapes.where.operations.comparisons import comparisons
from pgshapes.where.operations.integers import integer_operations
from pgshapes.where.operations.operation import Operation
from pgshapes.where.operations.texts import text_operations
from pgshapes.where.tree import ColumnRef, Const, Expr
from pgshapes.where.values.type_io import type_io

OPERATIONS: Final[dict[str, Operation]] = {
    **dict(comparisons()),
    **dict(integer_operations()),
    **dict(text_operations()),
}
CASTS: Final[dict[str, Operation]] = dict(cast_operations())


def is_supported(function: str) -> bool:
    """Whether an operator's or function's `pg_proc` name can be carried out."""
    return function in OPERATIONS


def is_castable(expr: Expr, target: PgType, function: str) -> bool:
    """Whether a cast of this expression can be carried out exactly."""
    if function == "relabel":
        return True
    if function == "io":
        return _is_writable(expr) if target.category == "S" else isinstance(expr, Const)
    if function.startswith("array:"):
        return False
    return function in CASTS


def _is_writable(expr: Expr) -> bool:
    """Whether the text of the expression's value is known: always for a column, whose text we are given."""
    if isinstance(expr, ColumnRef):
        return expr.type.kind == "e" or expr.type.oid in TYPES
    if type_io(expr.type) is None:
        return False
    element = expr.type.element or expr.type
    return element.oid not in (FLOAT4, FLOAT8, INTERVAL)
