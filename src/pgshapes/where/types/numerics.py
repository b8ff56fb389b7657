"""numeric: its values, arithmetic, comparisons, and the casts between it and integers or text (manual:
Arbitrary Precision Numbers).

Values are Decimals with the scale that Postgres keeps, and one NaN that sorts above all. Sums and products
are exact; quotients have the scale that Postgres chooses (`select_div_scale()`). `^` is not supported: its
scale and last digit come from Postgres's own series.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import total_ordering
from typing import Final

from pgshapes.where.types.integers import SIZES, in_range, plain_digits
from pgshapes.where.types.operation import (
    SPACE,
    BadLiteral,
    Modifier,
    RowError,
    TypeIO,
    calls,
    comparisons,
    inline,
    raises,
    reads,
)

NUMERIC_CONTEXT: Final = Context(prec=200_000, Emax=999_999_999, Emin=-999_999_999)
"""No operation on Postgres numerics is rounded: they have at most 131,072 digits before and 16,383 after the
point.
"""

DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?", re.ASCII)
_INFINITE: Final = re.compile(r"([+-]?)(?:inf|infinity)", re.ASCII | re.IGNORECASE)

_MAX_DIGITS: Final = 131_072
_MAX_SCALE: Final = 16_383
_MAX_DIVISION_SCALE: Final = 1_000
_SIGNIFICANT_DIGITS: Final = 16
_MAX_PRECISION: Final = 1_000


@total_ordering
class NotANumber:
    """NaN of float4, float8 and numeric: equal to itself and greater than all other values."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __lt__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "NaN"


NAN: Final = NotANumber()

Numeric = Decimal | NotANumber


def decode_numeric(text: str) -> Numeric:
    """A numeric from the server's text."""
    return NAN if text == "NaN" else Decimal(text)


def special_number(text: str) -> Numeric | None:
    """NaN or an infinity, None for any other text."""
    if text.lower() == "nan":
        return NAN
    infinite = _INFINITE.fullmatch(text)
    return None if infinite is None else Decimal(f"{infinite[1]}Infinity")


def read_numeric(text: str) -> Numeric:
    """A numeric from a client's text. Raises BadLiteral."""
    trimmed = text.strip(SPACE)
    special = special_number(trimmed)
    if special is not None:
        return special
    if DECIMAL.fullmatch(trimmed) is None:
        raise BadLiteral
    try:
        value = NUMERIC_CONTEXT.create_decimal(trimmed)
    except InvalidOperation:
        raise BadLiteral from None
    return _positional(value)


def _positional(value: Decimal) -> Decimal:
    """The value as Postgres stores it: without exponent and negative zero. Raises BadLiteral when it is out
    of range.
    """
    exponent = int(value.as_tuple().exponent)
    if value and value.adjusted() >= _MAX_DIGITS:
        raise BadLiteral("value overflows numeric format")
    if exponent < -_MAX_SCALE:
        raise BadLiteral("more than 16383 digits after the decimal point")
    if exponent > 0:
        value = NUMERIC_CONTEXT.quantize(value, Decimal(1))
    return value if value else abs(value)


def write_numeric(value: Numeric) -> str:
    """The text that `numeric_out` writes."""
    if isinstance(value, NotANumber):
        return "NaN"
    return format(value, "f") if value.is_finite() else ("Infinity" if value > 0 else "-Infinity")


def scale(value: Decimal) -> int:
    """The number of digits after the point."""
    return max(0, -int(value.as_tuple().exponent))


def add(left: Numeric, right: Numeric) -> Numeric:
    """`left + right`. Raises RowError on overflow."""
    return _computed(NUMERIC_CONTEXT.add, left, right)


def subtract(left: Numeric, right: Numeric) -> Numeric:
    """`left - right`. Raises RowError on overflow."""
    return _computed(NUMERIC_CONTEXT.subtract, left, right)


def multiply(left: Numeric, right: Numeric) -> Numeric:
    """`left * right`. Raises RowError on overflow."""
    return _computed(NUMERIC_CONTEXT.multiply, left, right)


def divide(left: Numeric, right: Numeric) -> Numeric:
    """The quotient, rounded half away from zero to the scale that Postgres chooses. Raises RowError."""
    if isinstance(left, NotANumber) or isinstance(right, NotANumber):
        return NAN
    if right == 0:
        raise RowError("division by zero")
    if not left.is_finite():
        return NAN if not right.is_finite() else (left if right > 0 else -left)
    if not right.is_finite():
        return Decimal(0)
    digits = _division_scale(left, right)
    return _fitting(_quotient(left, right, digits))


def remainder(left: Numeric, right: Numeric) -> Numeric:
    """The remainder with the sign of `left`. Raises RowError."""
    if isinstance(left, NotANumber) or isinstance(right, NotANumber):
        return NAN
    if right == 0:
        raise RowError("division by zero")
    if not left.is_finite():
        return NAN
    return _positive_zero(NUMERIC_CONTEXT.remainder(left, right) if right.is_finite() else left)


def negate(value: Numeric) -> Numeric:
    """`- value`."""
    return value if isinstance(value, NotANumber) else _positive_zero(NUMERIC_CONTEXT.copy_negate(value))


def absolute(value: Numeric) -> Numeric:
    """`@ value`."""
    return value if isinstance(value, NotANumber) else value.copy_abs()


def _computed(operation: Callable[[Decimal, Decimal], Decimal], left: Numeric, right: Numeric) -> Numeric:
    if isinstance(left, NotANumber) or isinstance(right, NotANumber):
        return NAN
    try:
        return _fitting(operation(left, right))
    except InvalidOperation:
        return NAN


def _fitting(value: Decimal) -> Decimal:
    if value.is_finite():
        if value and value.adjusted() >= _MAX_DIGITS:
            raise RowError("value overflows numeric format")
        if scale(value) > _MAX_SCALE:
            value = value.quantize(Decimal((0, (1,), -_MAX_SCALE)), ROUND_HALF_UP, NUMERIC_CONTEXT)
    return _positive_zero(value)


def _positive_zero(value: Decimal) -> Decimal:
    return value if value else value.copy_abs()


def _leading(value: Decimal) -> tuple[int, int]:
    """The weight and the first digit in base 10,000, as Postgres stores them."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    return weight, int(NUMERIC_CONTEXT.scaleb(value.copy_abs(), -4 * weight))


def _division_scale(left: Decimal, right: Decimal) -> int:
    """The scale that gives 16 significant digits, within limits, and is not less than that of either
    operand.
    """
    (weight1, digit1), (weight2, digit2) = _leading(left), _leading(right)
    weight = weight1 - weight2 - (digit1 <= digit2)
    return min(max(_SIGNIFICANT_DIGITS - weight * 4, scale(left), scale(right), 0), _MAX_DIVISION_SCALE)


def _quotient(left: Decimal, right: Decimal, digits: int) -> Decimal:
    """The quotient to `digits` digits after the point, computed in integers so that it is rounded once."""
    exponent = scale(right) - scale(left) + digits
    numerator = int(NUMERIC_CONTEXT.scaleb(left, scale(left)))
    denominator = int(NUMERIC_CONTEXT.scaleb(right, scale(right)))
    if exponent >= 0:
        numerator *= 10**exponent
    else:
        denominator *= 10**-exponent
    quotient, rest = divmod(abs(numerator), abs(denominator))
    quotient += 2 * rest >= abs(denominator)
    sign = -1 if (numerator < 0) != (denominator < 0) else 1
    return NUMERIC_CONTEXT.scaleb(NUMERIC_CONTEXT.create_decimal(sign * quotient), -digits)


def _to_integer(size: int) -> Callable[[Numeric], int]:
    check = in_range(size)

    def cast(value: Numeric) -> int:
        if isinstance(value, NotANumber) or not value.is_finite():
            raise RowError("cannot convert to integer")
        return check(int(value.to_integral_value(ROUND_HALF_UP, NUMERIC_CONTEXT)))

    return cast


def _is_valid_modifier(modifier: tuple[int, ...]) -> bool:
    """Whether it is a precision and a scale. Negative scales, new in Postgres 15, are not accepted."""
    precision, digits = (*modifier, 0)[:2]
    return len(modifier) <= 2 and 1 <= precision <= _MAX_PRECISION and 0 <= digits <= precision


def _rounding(modifier: tuple[int, ...]) -> Callable[[Numeric], Numeric]:
    precision, digits = modifier
    unit = Decimal((0, (1,), -digits))

    def convert(value: Numeric) -> Numeric:
        if isinstance(value, NotANumber):
            return value
        if not value.is_finite():
            raise RowError("numeric field overflow")
        rounded = value.quantize(unit, ROUND_HALF_UP, NUMERIC_CONTEXT)
        if rounded and rounded.adjusted() >= precision - digits:
            raise RowError("numeric field overflow")
        return rounded if rounded else rounded.copy_abs()

    return convert


TYPES: Final = {
    "numeric": TypeIO(
        decode_numeric,
        read_numeric,
        write_numeric,
        is_canonical=False,
        modifier=Modifier(_is_valid_modifier, _rounding),
    )
}
OPERATIONS: Final = {
    "numeric + numeric": raises(add),
    "numeric - numeric": raises(subtract),
    "numeric * numeric": raises(multiply),
    "numeric / numeric": raises(divide),
    "numeric % numeric": raises(remainder),
    "- numeric": calls(negate),
    "+ numeric": inline("{0}"),
    "@ numeric": calls(absolute),
    "abs(numeric)": calls(absolute),
    **comparisons("numeric", "numeric", is_keyed=True),
    **{f"{name}::numeric": inline("Decimal({0})") for name in SIZES},
    **{f"numeric::{name}": raises(_to_integer(size)) for name, size in SIZES.items()},
    "text::numeric": reads(lambda text: read_numeric(plain_digits(text))).before(
        160_000, reads(read_numeric)
    ),
}
