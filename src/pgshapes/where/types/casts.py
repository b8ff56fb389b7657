"""Casts between types, by `<source>_to_<target>` of type names; `relabel` changes nothing, `io` goes
through text.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from pgshapes.where.types import intervals, numbers, times
from pgshapes.where.types.comparisons import stamp_of_date
from pgshapes.where.types.integers import in_range
from pgshapes.where.types.numbers import NAN, NUMERIC_CONTEXT, NotANumber
from pgshapes.where.types.operation import Operation, RowError, calls, inline, raises

_SIZES: Final = {"int2": 2, "int4": 4, "int8": 8}


def cast_operations() -> Iterator[tuple[str, Operation]]:
    """All casts that are functions in Postgres."""
    for source in _SIZES:
        yield from _from_integer(source)
    yield "float4_to_float8", inline("{0}")
    yield "float8_to_float4", raises(float8_to_float4)
    for target, size in _SIZES.items():
        for source in ("float4", "float8"):
            yield f"{source}_to_{target}", raises(_rounding(size))
        yield f"numeric_to_{target}", raises(_numeric_to_integer(size))
    yield "numeric_to_float8", raises(numeric_to_float8)
    yield "numeric_to_float4", raises(numeric_to_float4)
    yield "float8_to_numeric", calls(lambda value: float_to_numeric(value, 15))
    yield "float4_to_numeric", calls(lambda value: float_to_numeric(value, 6))
    yield "bool_to_int4", inline("int({0})")
    yield "int4_to_bool", inline("({0} != 0)")
    yield from _texts()
    yield from _calendar()


def _from_integer(source: str) -> Iterator[tuple[str, Operation]]:
    for target, size in _SIZES.items():
        wider = size > _SIZES[source]
        yield f"{source}_to_{target}", inline("{0}") if wider else raises(in_range(size))
    yield f"{source}_to_numeric", inline("Decimal({0})")
    yield f"{source}_to_float8", inline("float({0})")
    yield f"{source}_to_float4", calls(lambda value: numbers.nearest_float4(str(value)))


def float8_to_float4(value: float | NotANumber) -> float | NotANumber:
    """Raises RowError on overflow and underflow."""
    return value if isinstance(value, NotANumber) else numbers.round_to_float4(value)


def _rounding(size: int):  # type: ignore[no-untyped-def]
    check = in_range(size)

    def cast(value: float | NotANumber) -> int:
        if isinstance(value, NotANumber) or value in (float("inf"), float("-inf")):
            raise RowError("integer out of range")
        return check(round(value))

    return cast


def _numeric_to_integer(size: int):  # type: ignore[no-untyped-def]
    check = in_range(size)

    def cast(value: Decimal | NotANumber) -> int:
        if isinstance(value, NotANumber) or not value.is_finite():
            raise RowError("cannot convert to integer")
        return check(int(value.to_integral_value(ROUND_HALF_UP, NUMERIC_CONTEXT)))

    return cast


def numeric_to_float8(value: Decimal | NotANumber) -> float | NotANumber:
    """Raises RowError on overflow and underflow."""
    if isinstance(value, NotANumber):
        return NAN
    wide = float(value)
    if value.is_finite() and (wide in (float("inf"), float("-inf")) or (wide == 0 and value != 0)):
        raise RowError("value out of range")
    return wide


def numeric_to_float4(value: Decimal | NotANumber) -> float | NotANumber:
    """Raises RowError on overflow and underflow."""
    if isinstance(value, NotANumber):
        return NAN
    narrow = numbers.nearest_float4(str(value))
    if value.is_finite() and (narrow in (float("inf"), float("-inf")) or (narrow == 0 and value != 0)):
        raise RowError("value out of range")
    return narrow


def float_to_numeric(value: float | NotANumber, digits: int) -> Decimal | NotANumber:
    """The float to 15 (float4: 6) significant digits, as Postgres has it."""
    if isinstance(value, NotANumber):
        return NAN
    if value in (float("inf"), float("-inf")):
        return Decimal(value)
    return numbers.read_numeric(f"{value:.{digits}g}")


def _texts() -> Iterator[tuple[str, Operation]]:
    for target in ("text", "varchar", "bpchar"):
        yield f"bool_to_{target}", inline('("true" if {0} else "false")')
    for source in ("bpchar", "name"):
        strip = '{0}.rstrip(" ")' if source == "bpchar" else "{0}"
        yield from ((f"{source}_to_{target}", inline(strip)) for target in ("text", "varchar"))


def _calendar() -> Iterator[tuple[str, Operation]]:
    for target in ("timestamp", "timestamptz"):
        yield f"date_to_{target}", raises(date_to_timestamp)
        yield f"{target}_to_date", calls(timestamp_to_date)
    yield "timestamp_to_timestamptz", inline("{0}")
    yield "timestamptz_to_timestamp", inline("{0}")
    yield "time_to_interval", calls(lambda value: intervals.Interval(0, 0, value))


def date_to_timestamp(days: int) -> int:
    """Midnight of a date. Raises RowError when timestamps do not reach it."""
    stamp = stamp_of_date(days)
    if abs(days) < times.DATE_INFINITY and stamp >= times.END_TIMESTAMP:
        raise RowError("date out of range for timestamp")
    return stamp


def timestamp_to_date(stamp: int) -> int:
    """The date of an instant, in UTC."""
    if stamp == times.TIMESTAMP_INFINITY:
        return times.DATE_INFINITY
    if stamp == times.TIMESTAMP_NEGATIVE_INFINITY:
        return times.DATE_NEGATIVE_INFINITY
    return stamp // times.DAY_US
