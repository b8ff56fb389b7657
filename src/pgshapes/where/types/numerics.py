"""numeric: exact sums and products, quotients to the scale that Postgres chooses (`select_div_scale()`),
NaN, infinities.

`^` is not here: its scale and last digit come from series of the server's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final

from pgshapes.where.types.numbers import NAN, NUMERIC_CONTEXT, NotANumber
from pgshapes.where.types.operation import Operation, RowError, calls, inline, raises

Numeric = Decimal | NotANumber

_MAX_DIGITS: Final = 131_072
_MAX_SCALE: Final = 16_383
_MAX_DIVISION_SCALE: Final = 1_000
_SIGNIFICANT_DIGITS: Final = 16


def scale(value: Decimal) -> int:
    """Digits after the point, as displayed."""
    return max(0, -int(value.as_tuple().exponent))


def add(left: Numeric, right: Numeric) -> Numeric:
    """Raises RowError on overflow."""
    return _computed(NUMERIC_CONTEXT.add, left, right)


def subtract(left: Numeric, right: Numeric) -> Numeric:
    """Raises RowError on overflow."""
    return _computed(NUMERIC_CONTEXT.subtract, left, right)


def multiply(left: Numeric, right: Numeric) -> Numeric:
    """Raises RowError on overflow."""
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
    """Unary minus."""
    return value if isinstance(value, NotANumber) else _positive_zero(NUMERIC_CONTEXT.copy_negate(value))


def absolute(value: Numeric) -> Numeric:
    """Without its sign."""
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
    """Weight and first digit in base 10,000, as Postgres stores it."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    return weight, int(NUMERIC_CONTEXT.scaleb(value.copy_abs(), -4 * weight))


def _division_scale(left: Decimal, right: Decimal) -> int:
    """Scale that gives 16 significant digits, within limits, and no less than either operand's."""
    (weight1, digit1), (weight2, digit2) = _leading(left), _leading(right)
    weight = weight1 - weight2 - (digit1 <= digit2)
    return min(max(_SIGNIFICANT_DIGITS - weight * 4, scale(left), scale(right), 0), _MAX_DIVISION_SCALE)


def _quotient(left: Decimal, right: Decimal, digits: int) -> Decimal:
    """In whole numbers, so that nothing is rounded twice."""
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


def numeric_operations() -> Iterator[tuple[str, Operation]]:
    """All numeric functions by name."""
    yield "numeric_add", raises(add)
    yield "numeric_sub", raises(subtract)
    yield "numeric_mul", raises(multiply)
    yield "numeric_div", raises(divide)
    yield "numeric_mod", raises(remainder)
    yield "numeric_uminus", calls(negate)
    yield "numeric_uplus", inline("{0}")
    yield "numeric_abs", calls(absolute)
    yield "abs(1700)", calls(absolute)
