"""All operations by name, and which casts can be carried out. Immutable."""

from __future__ import annotations

from typing import Final

from pgshapes.where.pg_catalog import PgType
from pgshapes.where.types.arrays import array_operations
from pgshapes.where.types.calendar import calendar_operations, calendar_operations_before_17
from pgshapes.where.types.casts import cast_operations
from pgshapes.where.types.comparisons import comparisons
from pgshapes.where.types.documents import document_operations
from pgshapes.where.types.floats import float_operations
from pgshapes.where.types.integers import integer_operations
from pgshapes.where.types.intervals import span_operations, span_operations_before_17
from pgshapes.where.types.numerics import numeric_operations
from pgshapes.where.types.operation import Operation
from pgshapes.where.types.text_casts import text_casts, text_casts_before_16
from pgshapes.where.types.texts import text_operations

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
CAST_OPERATIONS: Final[dict[str, Operation]] = {**dict(cast_operations()), **dict(text_casts())}
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
    return CAST_OPERATIONS[function]


def cast_name(function: str, target: PgType) -> str:
    """The key in `CAST_OPERATIONS` of a conversion not to text; reading text goes by the target alone."""
    return f"text_to_{target.name}" if function == "io" else function
