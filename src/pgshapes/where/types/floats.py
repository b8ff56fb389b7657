"""float4 and float8: their values, arithmetic, comparisons, and the casts between them and other numbers
(manual: Floating-Point Types).

Arithmetic is IEEE, with an error where Postgres has one: overflow, underflow, division by zero. float4
values are floats that fit 32 bits; results are computed in float8 and rounded once, which is exact for `+ -
* /` and sqrt. `^` is not supported: its last digit depends on the server's mathematical library.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Final

from pgshapes.where.types.integers import SIZES, in_range
from pgshapes.where.types.numerics import DECIMAL, NAN, NotANumber, Numeric, read_numeric, special_number
from pgshapes.where.types.operation import (
    SPACE,
    BadLiteral,
    Operation,
    RowError,
    TypeIO,
    calls,
    comparisons,
    inline,
    raises,
)

Float = float | NotANumber

_FLOAT4: Final = struct.Struct("f")


def decode_float8(text: str) -> Float:
    """A float8 from the server's text."""
    return NAN if text == "NaN" else float(text)


def decode_float4(text: str) -> Float:
    """A float4 from the server's text, which is the shortest, so that rounding by way of float8 is exact."""
    return NAN if text == "NaN" else pack_float4(float(text))


def read_float8(text: str) -> Float:
    """A float8 from a client's text. Raises BadLiteral, also for overflow and underflow."""
    return _read_float(text, "double precision", float)


def read_float4(text: str) -> Float:
    """A float4 from a client's text. Raises BadLiteral, also for overflow and underflow."""
    return _read_float(text, "real", nearest_float4)


def _read_float(text: str, name: str, convert: Callable[[str], float]) -> Float:
    trimmed = text.strip(SPACE)
    special = special_number(trimmed)
    if special is not None:
        return NAN if isinstance(special, NotANumber) else float(special)
    if DECIMAL.fullmatch(trimmed) is None:
        raise BadLiteral
    value = convert(trimmed)
    is_zero = not trimmed.lower().split("e")[0].strip("+-.0")
    if math.isinf(value) or (value == 0 and not is_zero):
        raise BadLiteral(f'"{text[:60]}" is out of range for type {name}')
    return value


def pack_float4(value: float) -> float:
    """A float8 rounded to float4, infinity for one that is too large."""
    try:
        narrow: float = _FLOAT4.unpack(_FLOAT4.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return narrow


def nearest_float4(text: str) -> float:
    """The float4 nearest to a decimal text, rounded once (not first to float8)."""
    narrow = pack_float4(float(text))
    if math.isinf(narrow) or narrow == 0:
        return narrow
    exact = Fraction(text)
    bits = struct.unpack("<i", struct.pack("<f", narrow))[0]
    around = [struct.unpack("<f", struct.pack("<i", bits + step))[0] for step in (-1, 0, 1)]
    finite = [
        (abs(Fraction(one) - exact), (bits + step) & 1, one)
        for step, one in zip((-1, 0, 1), around, strict=True)
        if math.isfinite(one)
    ]
    return float(min(finite)[2])


def round_to_float4(value: float) -> float:
    """A float8 rounded to float4. Raises RowError on overflow and underflow."""
    if math.isinf(value):
        return value
    narrow = pack_float4(value)
    if math.isinf(narrow):
        raise RowError("value out of range: overflow")
    if narrow == 0 and value != 0:
        raise RowError("value out of range: underflow")
    return narrow


def write_float(value: Float) -> str:
    """A text of the float; not always the one that the server would write."""
    if isinstance(value, NotANumber):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _shown(value: float) -> Float:
    return NAN if math.isnan(value) else value


def _add(left: float, right: float) -> float:
    return left + right


def _subtract(left: float, right: float) -> float:
    return left - right


def _multiply(left: float, right: float) -> float:
    return left * right


def _divide(left: float, right: float) -> float:
    if right == 0:
        raise RowError("division by zero")
    return left / right


def _may_vanish_product(left: float, right: float) -> bool:
    return left == 0 or right == 0


def _may_vanish_quotient(left: float, right: float) -> bool:
    return left == 0 or math.isinf(right)


def _never(_left: float, _right: float) -> bool:
    return True


_ARITHMETIC: Final[dict[str, tuple[Callable[[float, float], float], Callable[[float, float], bool]]]] = {
    "+": (_add, _never),
    "-": (_subtract, _never),
    "*": (_multiply, _may_vanish_product),
    "/": (_divide, _may_vanish_quotient),
}
"""Per operator: the function, and whether its result may be zero without an underflow."""


def _arithmetic(sign: str, fit: Callable[[float], float]) -> Operation:
    operation, may_be_zero = _ARITHMETIC[sign]
    is_division = sign == "/"

    def apply(left: Float, right: Float) -> Float:
        if isinstance(left, NotANumber) or isinstance(right, NotANumber):
            if is_division and right == 0 and not isinstance(left, NotANumber):
                raise RowError("division by zero")
            return NAN
        value = fit(operation(left, right))
        if math.isinf(value) and not math.isinf(left) and (is_division or not math.isinf(right)):
            raise RowError("value out of range: overflow")
        if value == 0 and not may_be_zero(left, right):
            raise RowError("value out of range: underflow")
        return _shown(value)

    return raises(apply)


def negate(value: Float) -> Float:
    """`- value`."""
    return value if isinstance(value, NotANumber) else -value


def absolute(value: Float) -> Float:
    """`@ value`."""
    return value if isinstance(value, NotANumber) else abs(value)


def square_root(value: Float) -> Float:
    """`|/ value`. Raises RowError for a negative number."""
    if isinstance(value, NotANumber):
        return value
    if value < 0:
        raise RowError("cannot take square root of a negative number")
    return math.sqrt(value)


def float8_to_float4(value: Float) -> Float:
    """`float8::float4`. Raises RowError on overflow and underflow."""
    return value if isinstance(value, NotANumber) else round_to_float4(value)


def _to_integer(size: int) -> Callable[[Float], int]:
    check = in_range(size)

    def cast(value: Float) -> int:
        if isinstance(value, NotANumber) or value in (float("inf"), float("-inf")):
            raise RowError("integer out of range")
        return check(round(value))

    return cast


def numeric_to_float8(value: Numeric) -> Float:
    """`numeric::float8`. Raises RowError on overflow and underflow."""
    if isinstance(value, NotANumber):
        return NAN
    wide = float(value)
    if value.is_finite() and (wide in (float("inf"), float("-inf")) or (wide == 0 and value != 0)):
        raise RowError("value out of range")
    return wide


def numeric_to_float4(value: Numeric) -> Float:
    """`numeric::float4`. Raises RowError on overflow and underflow."""
    if isinstance(value, NotANumber):
        return NAN
    narrow = nearest_float4(str(value))
    if value.is_finite() and (narrow in (float("inf"), float("-inf")) or (narrow == 0 and value != 0)):
        raise RowError("value out of range")
    return narrow


def float_to_numeric(value: Float, digits: int) -> Numeric:
    """The float rounded to significant digits, of which Postgres takes 15 for float8 and 6 for float4."""
    if isinstance(value, NotANumber):
        return NAN
    if value in (float("inf"), float("-inf")):
        return Decimal(value)
    return read_numeric(f"{value:.{digits}g}")


def _of(name: str) -> Iterator[tuple[str, Operation]]:
    yield f"- {name}", calls(negate)
    yield f"+ {name}", inline("{0}")
    yield f"@ {name}", calls(absolute)
    yield f"abs({name})", calls(absolute)
    yield from ((f"{name}::{target}", raises(_to_integer(size))) for target, size in SIZES.items())


def _between(left: str, right: str) -> Iterator[tuple[str, Operation]]:
    is_float4 = left == right == "float4"
    for sign in _ARITHMETIC:
        yield f"{left} {sign} {right}", _arithmetic(sign, pack_float4 if is_float4 else float)
    yield from comparisons(left, right, is_keyed=left == right).items()


TYPES: Final = {
    "float4": TypeIO(decode_float4, read_float4, write_float, is_canonical=False),
    "float8": TypeIO(decode_float8, read_float8, write_float, is_canonical=False),
}
OPERATIONS: Final = {
    **{signature: one for name in TYPES for signature, one in _of(name)},
    **{signature: one for pair in product(TYPES, repeat=2) for signature, one in _between(*pair)},
    "|/ float8": raises(square_root),
    "float4::float8": inline("{0}"),
    "float8::float4": raises(float8_to_float4),
    "numeric::float8": raises(numeric_to_float8),
    "numeric::float4": raises(numeric_to_float4),
    "float8::numeric": calls(lambda value: float_to_numeric(value, 15)),
    "float4::numeric": calls(lambda value: float_to_numeric(value, 6)),
    **{f"{name}::float8": inline("float({0})") for name in SIZES},
    **{f"{name}::float4": calls(lambda value: nearest_float4(str(value))) for name in SIZES},
}
