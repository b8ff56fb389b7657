"""Arithmetic of date, time, timestamp and timestamptz (manual: Date/Time Functions and Operators).

The session's time zone is UTC, so timestamptz computes as timestamp does. Results beyond the types' ranges
are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pgshapes.where.types import intervals, times
from pgshapes.where.types.casts import date_to_timestamp
from pgshapes.where.types.intervals import INFINITY, NEGATIVE_INFINITY, Interval
from pgshapes.where.types.operation import Operation, RowError, raises
from pgshapes.where.types.times import DAY_US

_ENDLESS_DATES: Final = (times.DATE_INFINITY, times.DATE_NEGATIVE_INFINITY)
_ENDLESS_STAMPS: Final = (times.TIMESTAMP_INFINITY, times.TIMESTAMP_NEGATIVE_INFINITY)
_ZONE: Final = re.compile(
    r"(?:utc|gmt|z)?([+-])(\d{1,2})(?::(\d{2})(?::(\d{2}))?)?", re.ASCII | re.IGNORECASE
)


def add_days(date: int, days: int) -> int:
    """A date some days later. Raises RowError."""
    if date in _ENDLESS_DATES:
        return date
    if not times.FIRST_DAY <= date + days <= times.LAST_DAY:
        raise RowError("date out of range")
    return date + days


def subtract_dates(left: int, right: int) -> int:
    """Days between two dates. Raises RowError."""
    if left in _ENDLESS_DATES or right in _ENDLESS_DATES:
        raise RowError("cannot subtract infinite dates")
    return left - right


def add_to_stamp(stamp: int, span: Interval) -> int:
    """A timestamp and an interval: months first, then days, then the rest. Raises RowError."""
    if intervals.is_endless(span):
        return _add_endless(stamp, span)
    if stamp in _ENDLESS_STAMPS:
        return stamp
    if span.months:
        stamp = _checked(_add_months(stamp, span.months))
    if span.days:
        stamp = _checked(stamp + span.days * DAY_US)
    return _checked(stamp + span.microseconds)


def subtract_from_stamp(stamp: int, span: Interval) -> int:
    """A timestamp less an interval. Raises RowError."""
    return add_to_stamp(stamp, intervals.negate(span))


def _add_endless(stamp: int, span: Interval) -> int:
    wanted = times.TIMESTAMP_INFINITY if span == INFINITY else times.TIMESTAMP_NEGATIVE_INFINITY
    if stamp in _ENDLESS_STAMPS and stamp != wanted:
        raise RowError("timestamp out of range")
    return wanted


def _add_months(stamp: int, months: int) -> int:
    days, clock = divmod(stamp, DAY_US)
    year, month, day = times.civil_from_days(days)
    year_shift, month = divmod(month - 1 + months, 12)
    year, month = year + year_shift, month + 1
    return times.days_from_civil(year, month, min(day, times.days_in_month(year, month))) * DAY_US + clock


def _checked(stamp: int) -> int:
    if not times.FIRST_TIMESTAMP <= stamp < times.END_TIMESTAMP:
        raise RowError("timestamp out of range")
    return stamp


def subtract_stamps(left: int, right: int) -> Interval:
    """The interval between two timestamps, in days and less. Raises RowError."""
    endless = {times.TIMESTAMP_INFINITY: 1, times.TIMESTAMP_NEGATIVE_INFINITY: -1}
    sign = endless.get(left, 0) - endless.get(right, 0)
    if left in endless or right in endless:
        if left == right:
            raise RowError("interval out of range")
        return INFINITY if sign > 0 else NEGATIVE_INFINITY
    return intervals.justify_hours(intervals.checked(0, 0, left - right))


def subtract_finite_stamps(left: int, right: int) -> Interval:
    """As `subtract_stamps`, before Postgres 17: there is no infinite interval. Raises RowError."""
    if left in _ENDLESS_STAMPS or right in _ENDLESS_STAMPS:
        raise RowError("cannot subtract infinite timestamps")
    return subtract_stamps(left, right)


def join_date_and_time(date: int, time: int) -> int:
    """The timestamp of a date and a time of day. Raises RowError."""
    stamp = date_to_timestamp(date)
    return stamp if stamp in _ENDLESS_STAMPS else _checked(stamp + time)


def add_to_time(time: int, span: Interval) -> int:
    """A time of day, round the clock. Raises RowError."""
    if intervals.is_endless(span):
        raise RowError("cannot add infinite interval to time")
    return (time + span.microseconds) % DAY_US


def subtract_from_time(time: int, span: Interval) -> int:
    """A time of day, round the clock. Raises RowError."""
    if intervals.is_endless(span):
        raise RowError("cannot subtract infinite interval from time")
    return (time - span.microseconds) % DAY_US


def zone_offset(zone: str) -> int:
    """Microseconds that a zone is ahead of UTC, for UTC itself and fixed offsets. Raises RowError for all
    else.

    As everywhere in `AT TIME ZONE`, offsets have POSIX signs: `+02` is west of Greenwich.
    """
    if zone.lower() in ("utc", "gmt", "z"):
        return 0
    found = _ZONE.fullmatch(zone)
    if found is None or int(found[2]) > 15 or int(found[3] or 0) > 59 or int(found[4] or 0) > 59:
        raise RowError(f'time zone "{zone[:60]}" is not supported, only UTC and fixed offsets are')
    seconds = int(found[2]) * 3600 + int(found[3] or 0) * 60 + int(found[4] or 0)
    return seconds * (-1_000_000 if found[1] == "+" else 1_000_000)


def is_fixed_zone(zone: str) -> bool:
    """Whether a zone is one that `zone_offset` knows."""
    try:
        zone_offset(zone)
    except RowError:
        return False
    return True


def to_zone(zone: str, stamp: int) -> int:
    """The local timestamp of an instant in a zone. Raises RowError."""
    return _shifted(stamp, zone_offset(zone))


def from_zone(zone: str, stamp: int) -> int:
    """The instant of a local timestamp in a zone. Raises RowError."""
    return _shifted(stamp, -zone_offset(zone))


def _shifted(stamp: int, offset: int) -> int:
    return stamp if stamp in _ENDLESS_STAMPS else _checked(stamp + offset)


def calendar_operations() -> Iterator[tuple[str, Operation]]:
    """All functions by name, as Postgres 17 and newer have them."""
    yield "date_pli", raises(add_days)
    yield "integer_pl_date", raises(lambda days, date: add_days(date, days))
    yield "date_mii", raises(lambda date, days: add_days(date, -days))
    yield "date_mi", raises(subtract_dates)
    yield "datetime_pl", raises(join_date_and_time)
    yield "timedate_pl", raises(lambda time, date: join_date_and_time(date, time))
    yield "date_pl_interval", raises(lambda date, span: add_to_stamp(date_to_timestamp(date), span))
    yield "interval_pl_date", raises(lambda span, date: add_to_stamp(date_to_timestamp(date), span))
    yield "date_mi_interval", raises(lambda date, span: subtract_from_stamp(date_to_timestamp(date), span))
    for stamp in ("timestamp", "timestamptz"):
        yield f"{stamp}_pl_interval", raises(add_to_stamp)
        yield f"interval_pl_{stamp}", raises(lambda span, stamp: add_to_stamp(stamp, span))
        yield f"{stamp}_mi_interval", raises(subtract_from_stamp)
        yield f"{stamp}_mi", raises(subtract_stamps)
    yield "time_pl_interval", raises(add_to_time)
    yield "interval_pl_time", raises(lambda span, time: add_to_time(time, span))
    yield "time_mi_interval", raises(subtract_from_time)
    yield "time_mi_time", raises(lambda left, right: Interval(0, 0, left - right))
    yield "timezone(25,1184)", raises(to_zone)
    yield "timezone(25,1114)", raises(from_zone)


def calendar_operations_before_17() -> Iterator[tuple[str, Operation]]:
    """Those that differ before Postgres 17."""
    for stamp in ("timestamp", "timestamptz"):
        yield f"{stamp}_mi", raises(subtract_finite_stamps)
