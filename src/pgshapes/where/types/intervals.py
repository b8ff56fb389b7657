"""interval: its values, arithmetic and comparisons (manual: Date/Time Types; Date/Time Functions and
Operators).

An interval is months, days and microseconds, as Postgres stores it. Arithmetic follows `timestamp.c`: a
fraction of a month becomes days, one of a day becomes microseconds. The server writes ISO 8601 with
designators (`IntervalStyle = iso_8601`); clients may write that and `quantity unit …`. Infinite intervals
exist from Postgres 17 on and are the ends of the three integers.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import total_ordering
from typing import Final

from pgshapes.where.types.dates import DAY_US
from pgshapes.where.types.numerics import NotANumber
from pgshapes.where.types.operation import SPACE, BadLiteral, RowError, TypeIO, comparisons, raises

_ISO: Final = re.compile(
    r"P(?:(-?\d{1,10})Y)?(?:(-?\d{1,10})M)?(?:(-?\d{1,10})W)?(?:(-?\d{1,10})D)?"
    r"(?:T(?:(-?\d{1,19})H)?(?:(-?\d{1,19})M)?(?:(-?)(\d{1,19})(?:\.(\d{1,6}))?S)?)?",
    re.ASCII,
)
_SECONDS: Final = re.compile(r"[+-]?\d{1,9}", re.ASCII)
_TERM: Final = re.compile(r"\s*([+-]?)(\d{1,10})(?:\.(\d{1,6}))?\s*([a-z]+)", re.ASCII | re.IGNORECASE)
_CLOCK: Final = re.compile(r"\s*([+-]?)(\d{1,9}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{0,6}))?)?", re.ASCII)

_UNITS: Final = {
    **dict.fromkeys(("year", "years", "yr", "yrs", "y"), ("year", 12, 0, 0)),
    **dict.fromkeys(("month", "months", "mon", "mons"), ("month", 1, 0, 0)),
    **dict.fromkeys(("decade", "decades"), ("decade", 120, 0, 0)),
    **dict.fromkeys(("century", "centuries"), ("century", 1200, 0, 0)),
    **dict.fromkeys(("day", "days", "d"), ("day", 0, 1, 0)),
    **dict.fromkeys(("week", "weeks", "w"), ("week", 0, 7, 0)),
    **dict.fromkeys(("hour", "hours", "hr", "hrs", "h"), ("hour", 0, 0, 3_600_000_000)),
    **dict.fromkeys(("minute", "minutes", "min", "mins", "m"), ("minute", 0, 0, 60_000_000)),
    **dict.fromkeys(("second", "seconds", "sec", "secs", "s"), ("second", 0, 0, 1_000_000)),
    **dict.fromkeys(("millisecond", "milliseconds", "ms", "msec"), ("second", 0, 0, 1_000)),
    **dict.fromkeys(("microsecond", "microseconds", "us", "usec"), ("second", 0, 0, 1)),
}
"""Per word: the unit it names, and the unit in months, days and microseconds."""
_ENDING: Final = frozenset({"d", "h", "m", "mon", "s", "y"})
"""The words that Postgres knows when it looks for their end: a number or sign may follow without a blank."""


@total_ordering
class Interval:
    """An interval in its three parts. Compared as in Postgres: a month is 30 days, a day 24 hours."""

    __slots__ = ("days", "microseconds", "months", "span")

    def __init__(self, months: int, days: int, microseconds: int) -> None:
        self.months = months
        self.days = days
        self.microseconds = microseconds
        self.span = (months * 30 + days) * DAY_US + microseconds
        """The whole interval in microseconds."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interval) and self.span == other.span

    def __lt__(self, other: Interval) -> bool:
        return self.span < other.span

    def __hash__(self) -> int:
        return hash(self.span)

    def __repr__(self) -> str:
        return f"Interval({self.months}, {self.days}, {self.microseconds})"


INFINITY: Final = Interval(2**31 - 1, 2**31 - 1, 2**63 - 1)
NEGATIVE_INFINITY: Final = Interval(-(2**31), -(2**31), -(2**63))


def read_interval(text: str) -> Interval:
    """An interval from a client's text, also from the server's. Raises BadLiteral."""
    word = text.strip(SPACE)
    if word.lower() in ("infinity", "-infinity"):
        return INFINITY if word[0] != "-" else NEGATIVE_INFINITY
    if _SECONDS.fullmatch(word):
        return Interval(0, 0, int(word) * 1_000_000)
    # Postgres skips blanks around every other form.
    found = _ISO.fullmatch(text) if len(text) > 1 and text[-1] not in "PT" else None
    return _literal_in_range(_from_iso(found) if found is not None else _from_terms(word))


def write_interval(value: Interval) -> str:
    """The text that `interval_out` writes under IntervalStyle iso_8601."""
    if value in (INFINITY, NEGATIVE_INFINITY):
        return "infinity" if value == INFINITY else "-infinity"
    years, months = _carry(value.months, 12)
    minutes, rest = _carry(value.microseconds, 60_000_000)
    hours, minutes = _carry(minutes, 60)
    date = "".join(
        f"{number}{unit}" for number, unit in ((years, "Y"), (months, "M"), (value.days, "D")) if number
    )
    clock = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number)
    if rest:
        seconds, fraction = divmod(abs(rest), 1_000_000)
        digits = f".{fraction:06d}".rstrip("0") if fraction else ""
        clock += f"{'-' if rest < 0 else ''}{seconds}{digits}S"
    return f"P{date}T{clock}" if clock else f"P{date}" if date else "PT0S"


def _from_iso(found: re.Match[str]) -> Interval:
    years, months, weeks, days, hours, minutes = (int(part or 0) for part in found.groups()[:6])
    seconds = int(found[8] or 0) * 1_000_000 + int((found[9] or "").ljust(6, "0"))
    clock = (hours * 60 + minutes) * 60_000_000 + (-seconds if found[7] else seconds)
    return Interval(years * 12 + months, weeks * 7 + days, clock)


def _from_terms(text: str) -> Interval:
    """The interval of `1 year 2 days 03:04:05`. Fractions are accepted below a day only, each unit once."""
    months = days = microseconds = position = 0
    seen: set[str] = set()
    while position < len(text):
        found = _CLOCK.match(text, position)
        if found is not None:
            units, parts = {"hour", "minute", "second"}, (0, 0, _clock(found))
        else:
            found = _TERM.match(text, position)
            if found is None:
                raise BadLiteral
            if not _ends_term(found[4].lower(), text[found.end() : found.end() + 1]):
                raise BadLiteral
            units, parts = _term_of(found)
        if seen & units:
            raise BadLiteral
        seen |= units
        months, days, microseconds = months + parts[0], days + parts[1], microseconds + parts[2]
        position = found.end()
    if not text:
        raise BadLiteral
    return Interval(months, days, microseconds)


def _ends_term(word: str, following: str) -> bool:
    """Whether a word ends before this character: others belong to it, as in the name of a time zone."""
    return not following or following in SPACE or (following != "-" and word in _ENDING)


def _clock(found: re.Match[str]) -> int:
    hours, minutes, seconds = int(found[2]), int(found[3]), int(found[4] or 0)
    if minutes > 59 or seconds > 59:
        raise BadLiteral
    total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((found[5] or "").ljust(6, "0"))
    return -total if found[1] == "-" else total


def _term_of(found: re.Match[str]) -> tuple[set[str], tuple[int, int, int]]:
    """The units that a term uses, and its months, days and microseconds."""
    unit = _UNITS.get(found[4].lower())
    if unit is None:
        raise BadLiteral
    amount = Fraction(f"{found[1]}{found[2]}.{found[3] or 0}")
    name, months, days, microseconds = unit
    if microseconds:
        return {name}, (0, 0, int(amount * microseconds))
    if amount.denominator != 1:
        raise BadLiteral
    return {name}, (int(amount) * months, int(amount) * days, 0)


def _literal_in_range(value: Interval) -> Interval:
    low, high = -(2**31), 2**31 - 1
    if not (
        low <= value.months <= high and low <= value.days <= high and -(2**63) <= value.microseconds < 2**63
    ):
        raise BadLiteral("interval out of range")
    return value


_DAY_S: Final = 86_400
_INT32: Final = (-(2**31), 2**31 - 1)
_INT64: Final = (-(2**63), 2**63 - 1)


def is_infinite(interval: Interval) -> bool:
    """Whether it is one of the infinite intervals of Postgres 17 and newer."""
    return _same(interval, INFINITY) or _same(interval, NEGATIVE_INFINITY)


def _same(left: Interval, right: Interval) -> bool:
    return left.months == right.months and left.days == right.days and left.microseconds == right.microseconds


def checked(months: int, days: int, microseconds: int) -> Interval:
    """The interval. Raises RowError when a part does not fit its type, and when the parts would mean
    infinity.
    """
    fits = _INT32[0] <= months <= _INT32[1] and _INT32[0] <= days <= _INT32[1]
    if not fits or not _INT64[0] <= microseconds <= _INT64[1]:
        raise RowError("interval out of range")
    made = Interval(months, days, microseconds)
    if is_infinite(made):
        raise RowError("interval out of range")
    return made


def negate(interval: Interval) -> Interval:
    """`- interval`. Raises RowError."""
    if is_infinite(interval):
        return NEGATIVE_INFINITY if interval == INFINITY else INFINITY
    return checked(-interval.months, -interval.days, -interval.microseconds)


def add(left: Interval, right: Interval) -> Interval:
    """`left + right`, part by part. Raises RowError."""
    if is_infinite(left) or is_infinite(right):
        if is_infinite(left) and is_infinite(right) and not _same(left, right):
            raise RowError("interval out of range")
        return left if is_infinite(left) else right
    return checked(left.months + right.months, left.days + right.days, left.microseconds + right.microseconds)


def subtract(left: Interval, right: Interval) -> Interval:
    """`left - right`, part by part. Raises RowError."""
    if is_infinite(left) or is_infinite(right):
        if is_infinite(left) and is_infinite(right) and _same(left, right):
            raise RowError("interval out of range")
        return left if is_infinite(left) else negate(right)
    return checked(left.months - right.months, left.days - right.days, left.microseconds - right.microseconds)


def multiply(interval: Interval, factor: float | NotANumber) -> Interval:
    """`interval * factor`: a fraction of a month becomes days, one of a day hours. Raises RowError."""
    if isinstance(factor, NotANumber):
        raise RowError("interval out of range")
    if is_infinite(interval):
        if factor == 0:
            raise RowError("interval out of range")
        return interval if factor > 0 else negate(interval)
    if math.isinf(factor):
        return _times_infinity(interval, factor)
    return _scaled(interval, interval.months * factor, interval.days * factor, interval.microseconds * factor)


def divide(interval: Interval, factor: float | NotANumber) -> Interval:
    """`interval / factor`, with fractions as in `multiply`. Raises RowError."""
    if factor == 0:
        raise RowError("division by zero")
    if isinstance(factor, NotANumber):
        raise RowError("interval out of range")
    if is_infinite(interval):
        if math.isinf(factor):
            raise RowError("interval out of range")
        return interval if factor > 0 else negate(interval)
    return _scaled(interval, interval.months / factor, interval.days / factor, interval.microseconds / factor)


def _times_infinity(interval: Interval, factor: float) -> Interval:
    """The infinite result of Postgres 17 and newer. Raises RowError for an interval of zero."""
    if interval.span == 0:
        raise RowError("interval out of range")
    return INFINITY if (interval.span > 0) == (factor > 0) else NEGATIVE_INFINITY


def multiply_finite(interval: Interval, factor: float | NotANumber) -> Interval:
    """`interval * factor` before Postgres 17. Raises RowError."""
    if isinstance(factor, NotANumber) or math.isinf(factor):
        raise RowError("interval out of range")
    return multiply(interval, factor)


def _rounded(seconds: float) -> float:
    """Seconds rounded to microseconds (`TSROUND`)."""
    return float(round(seconds * 1_000_000.0)) / 1_000_000.0


def _whole(value: float, limits: tuple[int, int]) -> int:
    if (
        math.isnan(value)
        or math.isinf(value)
        or not limits[0] <= value < float(limits[1]) + (limits is _INT32)
    ):
        raise RowError("interval out of range")
    return math.trunc(value)


def _scaled(interval: Interval, exact_months: float, exact_days: float, exact_time: float) -> Interval:
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
    """Quotient and remainder, truncated toward zero."""
    whole = abs(small) // unit * (1 if small >= 0 else -1)
    return whole, small - whole * unit


def justify_hours(interval: Interval) -> Interval:
    """The interval with 24 hours as a day. Raises RowError."""
    if is_infinite(interval):
        return interval
    whole, microseconds = _carry(interval.microseconds, DAY_US)
    days = interval.days + whole
    days, microseconds = _same_sign(days, microseconds, DAY_US)
    return checked(interval.months, days, microseconds)


def justify_days(interval: Interval) -> Interval:
    """The interval with 30 days as a month. Raises RowError."""
    if is_infinite(interval):
        return interval
    whole, days = _carry(interval.days, 30)
    months, days = _same_sign(interval.months + whole, days, 30)
    return checked(months, days, interval.microseconds)


def justify_interval(interval: Interval) -> Interval:
    """The interval with both, and all parts of one sign. Raises RowError."""
    if is_infinite(interval):
        return interval
    whole_days, microseconds = _carry(interval.microseconds, DAY_US)
    whole_months, days = _carry(interval.days + whole_days, 30)
    months = interval.months + whole_months
    if months > 0 and (days < 0 or (days == 0 and microseconds < 0)):
        months, days = months - 1, days + 30
    elif months < 0 and (days > 0 or (days == 0 and microseconds > 0)):
        months, days = months + 1, days - 30
    days, microseconds = _same_sign(days, microseconds, DAY_US)
    return checked(months, days, microseconds)


def _same_sign(large: int, small: int, unit: int) -> tuple[int, int]:
    if large > 0 and small < 0:
        return large - 1, small + unit
    if large < 0 and small > 0:
        return large + 1, small - unit
    return large, small


TYPES: Final = {"interval": TypeIO(read_interval, read_interval, write_interval, is_canonical=False)}
OPERATIONS: Final = {
    **comparisons("interval", "interval", is_keyed=True),
    "- interval": raises(negate),
    "interval + interval": raises(add),
    "interval - interval": raises(subtract),
    "interval * float8": raises(multiply).before(170_000, raises(multiply_finite)),
    "float8 * interval": raises(lambda factor, interval: multiply(interval, factor)).before(
        170_000, raises(lambda factor, interval: multiply_finite(interval, factor))
    ),
    "interval / float8": raises(divide),
    "justify_hours(interval)": raises(justify_hours),
    "justify_days(interval)": raises(justify_days),
    "justify_interval(interval)": raises(justify_interval),
}
