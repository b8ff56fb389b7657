"""Arithmetic of intervals, after `timestamp.c` of Postgres: months, days and microseconds apart, fractions
passed down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from pgshapes.where.types.intervals import INFINITY, NEGATIVE_INFINITY, Interval
from pgshapes.where.types.numbers import NotANumber
from pgshapes.where.types.operation import Operation, RowError, raises

_DAY_US: Final = 86_400_000_000
_DAY_S: Final = 86_400
_INT32: Final = (-(2**31), 2**31 - 1)
_INT64: Final = (-(2**63), 2**63 - 1)


def is_endless(span: Interval) -> bool:
    """Whether it is one of the infinite intervals of Postgres 17 and newer."""
    return _same(span, INFINITY) or _same(span, NEGATIVE_INFINITY)


def _same(left: Interval, right: Interval) -> bool:
    return left.months == right.months and left.days == right.days and left.microseconds == right.microseconds


def checked(months: int, days: int, microseconds: int) -> Interval:
    """The interval, if its parts fit their types and it is not an infinity by accident. Raises RowError."""
    fits = _INT32[0] <= months <= _INT32[1] and _INT32[0] <= days <= _INT32[1]
    if not fits or not _INT64[0] <= microseconds <= _INT64[1]:
        raise RowError("interval out of range")
    made = Interval(months, days, microseconds)
    if is_endless(made):
        raise RowError("interval out of range")
    return made


def negate(span: Interval) -> Interval:
    """Unary minus. Raises RowError."""
    if is_endless(span):
        return NEGATIVE_INFINITY if span == INFINITY else INFINITY
    return checked(-span.months, -span.days, -span.microseconds)


def add(left: Interval, right: Interval) -> Interval:
    """Part by part. Raises RowError."""
    if is_endless(left) or is_endless(right):
        if is_endless(left) and is_endless(right) and not _same(left, right):
            raise RowError("interval out of range")
        return left if is_endless(left) else right
    return checked(left.months + right.months, left.days + right.days, left.microseconds + right.microseconds)


def subtract(left: Interval, right: Interval) -> Interval:
    """Part by part. Raises RowError."""
    if is_endless(left) or is_endless(right):
        if is_endless(left) and is_endless(right) and _same(left, right):
            raise RowError("interval out of range")
        return left if is_endless(left) else negate(right)
    return checked(left.months - right.months, left.days - right.days, left.microseconds - right.microseconds)


def multiply(span: Interval, factor: float | NotANumber) -> Interval:
    """Fractions of months become days of which 30 are a month, those of days hours. Raises RowError."""
    if isinstance(factor, NotANumber):
        raise RowError("interval out of range")
    if is_endless(span):
        if factor == 0:
            raise RowError("interval out of range")
        return span if factor > 0 else negate(span)
    if math.isinf(factor):
        return _times_infinity(span, factor)
    return _scaled(span, span.months * factor, span.days * factor, span.microseconds * factor)


def divide(span: Interval, factor: float | NotANumber) -> Interval:
    """As `multiply`. Raises RowError."""
    if factor == 0:
        raise RowError("division by zero")
    if isinstance(factor, NotANumber):
        raise RowError("interval out of range")
    if is_endless(span):
        if math.isinf(factor):
            raise RowError("interval out of range")
        return span if factor > 0 else negate(span)
    return _scaled(span, span.months / factor, span.days / factor, span.microseconds / factor)


def _times_infinity(span: Interval, factor: float) -> Interval:
    """From Postgres 17 on an interval that is not zero becomes infinite. Raises RowError."""
    if span.span == 0:
        raise RowError("interval out of range")
    return INFINITY if (span.span > 0) == (factor > 0) else NEGATIVE_INFINITY


def multiply_finite(span: Interval, factor: float | NotANumber) -> Interval:
    """As `multiply`, before Postgres 17. Raises RowError."""
    if isinstance(factor, NotANumber) or math.isinf(factor):
        raise RowError("interval out of range")
    return multiply(span, factor)


def _rounded(seconds: float) -> float:
    """To microseconds (`TSROUND`)."""
    return float(round(seconds * 1_000_000.0)) / 1_000_000.0


def _whole(value: float, limits: tuple[int, int]) -> int:
    if (
        math.isnan(value)
        or math.isinf(value)
        or not limits[0] <= value < float(limits[1]) + (limits is _INT32)
    ):
        raise RowError("interval out of range")
    return math.trunc(value)


def _scaled(span: Interval, exact_months: float, exact_days: float, exact_time: float) -> Interval:
    months, days = _whole(exact_months, _INT32), _whole(exact_days, _INT32)
    month_days = _rounded((exact_months - months) * 30)
    seconds = _rounded((exact_days - days + month_days - math.trunc(month_days)) * _DAY_S)
    if abs(seconds) >= _DAY_S:
        days += math.trunc(seconds / _DAY_S)
        seconds -= math.trunc(seconds / _DAY_S) * _DAY_S
    days += math.trunc(month_days)
    microseconds = _whole(_rint(exact_time + seconds * 1_000_000), _INT64)
    return checked(months, days, microseconds)


def _rint(value: float) -> float:
    return float(round(value)) if math.isfinite(value) else value


def _carry(small: int, unit: int) -> tuple[int, int]:
    """Whole units and the rest, toward zero."""
    whole = abs(small) // unit * (1 if small >= 0 else -1)
    return whole, small - whole * unit


def justify_hours(span: Interval) -> Interval:
    """24 hours become a day. Raises RowError."""
    if is_endless(span):
        return span
    whole, microseconds = _carry(span.microseconds, _DAY_US)
    days = span.days + whole
    days, microseconds = _same_sign(days, microseconds, _DAY_US)
    return checked(span.months, days, microseconds)


def justify_days(span: Interval) -> Interval:
    """30 days become a month. Raises RowError."""
    if is_endless(span):
        return span
    whole, days = _carry(span.days, 30)
    months, days = _same_sign(span.months + whole, days, 30)
    return checked(months, days, span.microseconds)


def justify_interval(span: Interval) -> Interval:
    """Both, and all signs alike. Raises RowError."""
    if is_endless(span):
        return span
    whole_days, microseconds = _carry(span.microseconds, _DAY_US)
    whole_months, days = _carry(span.days + whole_days, 30)
    months = span.months + whole_months
    if months > 0 and (days < 0 or (days == 0 and microseconds < 0)):
        months, days = months - 1, days + 30
    elif months < 0 and (days > 0 or (days == 0 and microseconds > 0)):
        months, days = months + 1, days - 30
    days, microseconds = _same_sign(days, microseconds, _DAY_US)
    return checked(months, days, microseconds)


def _same_sign(large: int, small: int, unit: int) -> tuple[int, int]:
    if large > 0 and small < 0:
        return large - 1, small + unit
    if large < 0 and small > 0:
        return large + 1, small - unit
    return large, small


def span_operations() -> Iterator[tuple[str, Operation]]:
    """All interval functions by name, as Postgres 17 and newer have them."""
    yield "interval_um", raises(negate)
    yield "interval_pl", raises(add)
    yield "interval_mi", raises(subtract)
    yield "interval_mul", raises(multiply)
    yield "mul_d_interval", raises(lambda factor, span: multiply(span, factor))
    yield "interval_div", raises(divide)
    yield "justify_hours(1186)", raises(justify_hours)
    yield "justify_days(1186)", raises(justify_days)
    yield "justify_interval(1186)", raises(justify_interval)


def span_operations_before_17() -> Iterator[tuple[str, Operation]]:
    """Those that differ before Postgres 17."""
    yield "interval_mul", raises(multiply_finite)
    yield "mul_d_interval", raises(lambda factor, span: multiply_finite(span, factor))
