"""All operations by name, and which casts can be carried out. Immutable."""

from __future__ import annotations

from typing import Final

from pgshapes.where.language.tree import ColumnRef, Expr
from pgshapes.where.pg_catalog import FLOAT4, FLOAT8, TYPES, PgType
from pgshapes.where.types.array_functions import array_operations
from pgshapes.where.types.calendar import calendar_operations, calendar_operations_before_17
from pgshapes.where.types.casts import cast_operations
from pgshapes.where.types.comparisons import comparisons
from pgshapes.where.types.document_operations import document_operations
from pgshapes.where.types.floats import float_operations
from pgshapes.where.types.integers import integer_operations
from pgshapes.where.types.numerics import numeric_operations
from pgshapes.where.types.operation import Operation
from pgshapes.where.types.spans import span_operations, span_operations_before_17
from pgshapes.where.types.text_casts import text_casts, text_casts_before_16
from pgshapes.where.types.texts import text_operations
from pgshapes.where.types.type_io import type_io

OPERATIONS: Final[dict[str, Operation]] = {
    **dict(comparisons()),
    **dict(integer_operations()),
    **dict(float_operations()),
    **dict(numeric_operations()),
    **dict(text_operations()),
    **dict(calendar_operations()),
    **dict(span_operations()),
    **dict(array_operations()),
    **dict(document_operations()),
}
_BEFORE_17: Final[dict[str, Operation]] = {
    **dict(calendar_operations_before_17()),
    **dict(span_operations_before_17()),
}
CASTS: Final[dict[str, Operation]] = {**dict(cast_operations()), **dict(text_casts())}
_CASTS_BEFORE_16: Final[dict[str, Operation]] = dict(text_casts_before_16())


def is_supported(function: str) -> bool:
    """Whether an operator's or function's `pg_proc` name can be carried out."""
    return function in OPERATIONS


def operation_of(function: str, server_version: int) -> Operation:
    """How a server of a version (`server_version_num`, 0 for the newest) carries a function out."""
    if 0 < server_version < 170_000 and function in _BEFORE_17:
        return _BEFORE_17[function]
    return OPERATIONS[function]


def cast_of(function: str, server_version: int) -> Operation:
    """How a server of a version carries a cast out."""
    if 0 < server_version < 160_000 and function in _CASTS_BEFORE_16:
        return _CASTS_BEFORE_16[function]
    return CASTS[function]


def cast_name(function: str, target: PgType) -> str:
    """The name in `CASTS` of a conversion that is not to text; reading text goes by the target alone."""
    return f"text_to_{target.name}" if function == "io" else function


def is_castable(expr: Expr, target: PgType, function: str) -> bool:
    """Whether a cast of this expression can be carried out exactly."""
    if function.startswith("array:"):
        return _is_item_castable(expr.type, target, function.removeprefix("array:"))
    if function == "io" and target.category == "S":
        return _is_writable(expr)
    return function == "relabel" or cast_name(function, target) in CASTS


def _is_item_castable(source: PgType, target: PgType, function: str) -> bool:
    if source.element is None or target.element is None or type_io(source) is None or type_io(target) is None:
        return False
    if function == "io" and target.element.category == "S":
        return source.element.oid not in (FLOAT4, FLOAT8)
    return function == "relabel" or cast_name(function, target.element) in CASTS


def _is_writable(expr: Expr) -> bool:
    """Whether the text of the expression's value is known: always for a column, whose text we are given."""
    if isinstance(expr, ColumnRef):
        return expr.type.kind == "e" or expr.type.oid in TYPES
    if type_io(expr.type) is None:
        return False
    element = expr.type.element or expr.type
    return element.oid not in (FLOAT4, FLOAT8)
