"""Integers, floats and numeric: int, float, Decimal, and one NaN that sorts above all, as in Postgres.

Integers are canonical in text; numeric keeps its scale. Floats are IEEE as in the server; float4 values are
floats that fit 32 bits.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from functools import total_ordering
from typing import Final

from pgshapes.where.types.operation import BadLiteral, RowError

INT_RANGES: Final = {2: (-(2**15), 2**15 - 1), 4: (-(2**31), 2**31 - 1), 8: (-(2**63), 2**63 - 1)}

NUMERIC_CONTEXT: Final = Context(prec=200_000, Emax=999_999_999, Emin=-999_999_999)
"""Wide enough that no operation on Postgres numerics rounds: 131,072 digits before and 16,383 after the
point.
"""

_SPACE: Final = " \t\n\v\f\r"
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?", re.ASCII)
_INFINITE: Final = re.compile(r"([+-]?)(?:inf|infinity)", re.ASCII | re.IGNORECASE)
_FLOAT4: Final = struct.Struct("f")


@total_ordering
class NotANumber:
    """NaN of float4, float8 and numeric: equal to itself and greater than all else."""

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
Number = int | float | Decimal | NotANumber


def read_integer(text: str, size: int) -> int:
    """An int2, int4 or int8 (`size` in bytes) from a user's text. Raises BadLiteral."""
    trimmed = text.strip(_SPACE)
    if _INTEGER.fullmatch(trimmed) is None:
        raise BadLiteral
    low, high = INT_RANGES[size]
    value = int(trimmed) if len(trimmed) < 400 else high + 1
    if not low <= value <= high:
        raise BadLiteral(f'value "{text[:60]}" is out of range for type {_NAMES[size]}')
    return value


_NAMES: Final = {2: "smallint", 4: "integer", 8: "bigint"}


def decode_float8(text: str) -> float | NotANumber:
    """A float8 as the server writes it."""
    return NAN if text == "NaN" else float(text)


def decode_float4(text: str) -> float | NotANumber:
    """A float4 as the server writes it: the shortest text, for which rounding by way of float8 is exact."""
    return NAN if text == "NaN" else pack_float4(float(text))


def read_float8(text: str) -> float | NotANumber:
    """A float8 from a user's text. Raises BadLiteral, also where Postgres says out of range."""
    return _read_float(text, "double precision", float)


def read_float4(text: str) -> float | NotANumber:
    """A float4 from a user's text. Raises BadLiteral."""
    return _read_float(text, "real", nearest_float4)


def _read_float(text: str, name: str, convert: Callable[[str], float]) -> float | NotANumber:
    trimmed = text.strip(_SPACE)
    if trimmed.lower() == "nan":
        return NAN
    infinite = _INFINITE.fullmatch(trimmed)
    if infinite is not None:
        return float(f"{infinite[1]}inf")
    if _DECIMAL.fullmatch(trimmed) is None:
        raise BadLiteral
    value = convert(trimmed)
    is_zero = not trimmed.lower().split("e")[0].strip("+-.0")
    if math.isinf(value) or (value == 0 and not is_zero):
        raise BadLiteral(f'"{text[:60]}" is out of range for type {name}')
    return value


def pack_float4(value: float) -> float:
    """A float8 rounded to float4, infinite when it is too large."""
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
    """A float8 rounded to float4. Raises RowError where Postgres says overflow or underflow."""
    if math.isinf(value):
        return value
    narrow = pack_float4(value)
    if math.isinf(narrow):
        raise RowError("value out of range: overflow")
    if narrow == 0 and value != 0:
        raise RowError("value out of range: underflow")
    return narrow


def decode_numeric(text: str) -> Decimal | NotANumber:
    """A numeric as the server writes it."""
    return NAN if text == "NaN" else Decimal(text)


def read_numeric(text: str) -> Decimal | NotANumber:
    """A numeric from a user's text. Raises BadLiteral."""
    trimmed = text.strip(_SPACE)
    if trimmed.lower() == "nan":
        return NAN
    infinite = _INFINITE.fullmatch(trimmed)
    if infinite is not None:
        return Decimal(f"{infinite[1]}Infinity")
    if _DECIMAL.fullmatch(trimmed) is None:
        raise BadLiteral
    try:
        value = NUMERIC_CONTEXT.create_decimal(trimmed)
    except InvalidOperation:
        raise BadLiteral from None
    return _positional(value)


def _positional(value: Decimal) -> Decimal:
    """The value as Postgres stores it: no exponent above zero, no negative zero, within the limits of the
    type.
    """
    exponent = int(value.as_tuple().exponent)
    if value and value.adjusted() >= 131_072:
        raise BadLiteral("value overflows numeric format")
    if exponent < -16_383:
        raise BadLiteral("more than 16383 digits after the decimal point")
    if exponent > 0:
        value = NUMERIC_CONTEXT.quantize(value, Decimal(1))
    return value if value else abs(value)


def write_numeric(value: Decimal | NotANumber) -> str:
    """As `numeric_out` writes it."""
    if isinstance(value, NotANumber):
        return "NaN"
    return format(value, "f") if value.is_finite() else ("Infinity" if value > 0 else "-Infinity")


def write_float(value: float | NotANumber) -> str:
    """A text that reads back as the same float; not always the very text that the server would write."""
    if isinstance(value, NotANumber):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)
