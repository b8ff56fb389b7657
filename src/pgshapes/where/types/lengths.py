"""Casts to a length or precision: `numeric(10,2)`, `varchar(5)`, `char(5)` (manual: Data Types)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from pgshapes.where.types.numbers import NUMERIC_CONTEXT, NotANumber
from pgshapes.where.types.operation import RowError

_MAX_CHARACTERS: Final = 10_485_760
_MAX_PRECISION: Final = 1_000


def is_valid_modifier(type_name: str, modifier: tuple[int, ...]) -> bool:
    """Whether a type may have the modifier; scales below zero (Postgres 15) are not taken."""
    if type_name != "numeric":
        return len(modifier) == 1 and 1 <= modifier[0] <= _MAX_CHARACTERS
    precision, digits = (*modifier, 0)[:2]
    return len(modifier) <= 2 and 1 <= precision <= _MAX_PRECISION and 0 <= digits <= precision


def length_coercion(function: str, modifier: tuple[int, ...]) -> Callable[[Any], Any]:
    """The conversion that `function` (`<type>_length`) makes; numeric's may raise RowError."""
    if function == "numeric_length":
        return _rounding(*modifier)
    (size,) = modifier
    if function == "varchar_length":
        return lambda text: text[:size]
    return lambda text: text[:size].ljust(size)


def _rounding(precision: int, digits: int) -> Callable[[Decimal | NotANumber], Decimal | NotANumber]:
    unit = Decimal((0, (1,), -digits))

    def convert(value: Decimal | NotANumber) -> Decimal | NotANumber:
        if isinstance(value, NotANumber):
            return value
        if not value.is_finite():
            raise RowError("numeric field overflow")
        rounded = value.quantize(unit, ROUND_HALF_UP, NUMERIC_CONTEXT)
        if rounded and rounded.adjusted() >= precision - digits:
            raise RowError("numeric field overflow")
        return rounded if rounded else rounded.copy_abs()

    return convert
