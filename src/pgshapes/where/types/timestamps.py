"""time, timestamp and timestamptz: their values, arithmetic, comparisons and casts (manual: Date/Time Types;
Date/Time Functions and Operators).

A timestamp is microseconds since 2000-01-01 00:00 (UTC for timestamptz), a time is microseconds since
midnight, as Postgres stores them; infinities are the ends of the stored integer. Sessions run with TimeZone
UTC and DateStyle ISO, so timestamptz is computed as timestamp. Results out of range are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from pgshapes.where.types import intervals
from pgshapes.where.types.dates import (
    DATE_FORM,
    DATE_INFINITY,
    DATE_NEGATIVE_INFINITY,
    DAY_US,
    ERA_FORM,
    ORDINAL_2000,
    civil_from_days,
    civil_text,
    days_from_civil,
    days_in_month,
    days_of,
    special_word,
)
from pgshapes.where.types.intervals import INFINITY, NEGATIVE_INFINITY, Interval
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

TIMESTAMP_INFINITY: Final = 2**63 - 1
TIMESTAMP_NEGATIVE_INFINITY: Final = -(2**63)
_INFINITE_TIMESTAMPS: Final = (TIMESTAMP_INFINITY, TIMESTAMP_NEGATIVE_INFINITY)
FIRST_TIMESTAMP: Final = -211_813_488_000_000_000
END_TIMESTAMP: Final = 9_223_371_331_200_000_000
"""294277-01-01, the first timestamp that is out of range."""

_CLOCK: Final = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{0,6}))?)?"
_ZONE: Final = r" ?(?P<zone>Z|UTC|GMT|(?P<sign>[+-])(?P<zh>\d{1,2})(?::?(?P<zm>\d{2})(?::(?P<zs>\d{2}))?)?)"
_TIME_FORM: Final = re.compile(_CLOCK, re.ASCII)
_TIMESTAMP_FORM: Final = re.compile(
    rf"{DATE_FORM}(?:[ T]{_CLOCK})?(?:{_ZONE})?{ERA_FORM}", re.ASCII | re.IGNORECASE
)
_FIXED_ZONE: Final = re.compile(
    r"(?:utc|gmt|z)?([+-])(\d{1,2})(?::(\d{2})(?::(\d{2}))?)?", re.ASCII | re.IGNORECASE
)


def read_time(text: str) -> int:
    """A time from a client's text, also from the server's. Raises BadLiteral."""
    found = _TIME_FORM.fullmatch(text.strip(SPACE))
    if found is None:
        raise BadLiteral
    return _clock(found)


def write_time(microseconds: int) -> str:
    """The text that `time_out` writes."""
    minutes, rest = divmod(microseconds, 60_000_000)
    seconds, fraction = divmod(rest, 1_000_000)
    digits = f".{fraction:06d}".rstrip("0") if fraction else ""
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{digits}"


def decode_timestamp(text: str) -> int:
    """A timestamp from the server's text, or a timestamptz under TimeZone UTC."""
    if len(text) > 18 and text[4] == "-" and text[13] == ":" and text[-1] != "C":
        days = date.fromisoformat(text[:10]).toordinal() - ORDINAL_2000
        seconds = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
        rest = text[19:].removesuffix("+00")
        return (days * 86_400 + seconds) * 1_000_000 + (int(rest[1:].ljust(6, "0")) if rest else 0)
    return read_timestamptz(text)


def read_timestamp(text: str) -> int:
    """A timestamp from a client's ISO text; a zone is ignored, as in Postgres. Raises BadLiteral."""
    return _read_timestamp(text, is_zoned=False)


def read_timestamptz(text: str) -> int:
    """A timestamptz from a client's ISO text, in UTC if it has no zone. Raises BadLiteral."""
    return _read_timestamp(text, is_zoned=True)


def write_timestamp(timestamp: int) -> str:
    """The text that `timestamp_out` writes under DateStyle ISO."""
    if timestamp in (TIMESTAMP_INFINITY, TIMESTAMP_NEGATIVE_INFINITY):
        return "infinity" if timestamp > 0 else "-infinity"
    days, clock = divmod(timestamp, DAY_US)
    day, era = civil_text(days)
    return f"{day} {write_time(clock)}{era}"


def write_timestamptz(timestamp: int) -> str:
    """The text that `timestamptz_out` writes under DateStyle ISO and TimeZone UTC."""
    text = write_timestamp(timestamp)
    if text.endswith("infinity"):
        return text
    return text.removesuffix(" BC") + "+00 BC" if text.endswith(" BC") else text + "+00"


def _read_timestamp(text: str, *, is_zoned: bool) -> int:
    special = special_word(text, TIMESTAMP_INFINITY, TIMESTAMP_NEGATIVE_INFINITY, -10_957 * DAY_US)
    if special is not None:
        return special
    found = _TIMESTAMP_FORM.fullmatch(text.strip(SPACE))
    if found is None or (found["zone"] and found["hour"] is None):
        raise BadLiteral
    clock = 0 if found["hour"] is None else _clock(found)
    offset = _offset(found)
    timestamp = days_of(found) * DAY_US + clock - (offset if is_zoned else 0)
    if not FIRST_TIMESTAMP <= timestamp < END_TIMESTAMP:
        raise BadLiteral(f'timestamp out of range: "{text[:60]}"')
    return timestamp


def _clock(found: re.Match[str]) -> int:
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    fraction = int((found["fraction"] or "").ljust(6, "0"))
    microseconds = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
    if minute > 59 or second > 60 or microseconds > DAY_US:
        raise BadLiteral(f'date/time field value out of range: "{found[0][:60]}"')
    return microseconds


def _offset(found: re.Match[str]) -> int:
    """How many microseconds the zone is ahead of UTC."""
    if not found["sign"]:
        return 0
    hours, minutes, seconds = int(found["zh"]), int(found["zm"] or 0), int(found["zs"] or 0)
    if hours > 15 or minutes > 59 or seconds > 59:
        raise BadLiteral(f'time zone displacement out of range: "{found["zone"]}"')
    return (hours * 3600 + minutes * 60 + seconds) * (1_000_000 if found["sign"] == "+" else -1_000_000)


def timestamp_of_date(days: int) -> int:
    """A date as a timestamp for comparisons: dates beyond the range of timestamps stay less than infinity."""
    if days == DATE_INFINITY:
        return TIMESTAMP_INFINITY
    if days == DATE_NEGATIVE_INFINITY:
        return TIMESTAMP_NEGATIVE_INFINITY
    return min(days * DAY_US, TIMESTAMP_INFINITY - 1)


def date_to_timestamp(days: int) -> int:
    """Midnight of a date. Raises RowError for a date beyond the range of timestamps."""
    timestamp = timestamp_of_date(days)
    if abs(days) < DATE_INFINITY and timestamp >= END_TIMESTAMP:
        raise RowError("date out of range for timestamp")
    return timestamp


def timestamp_to_date(timestamp: int) -> int:
    """The date of a timestamp."""
    if timestamp == TIMESTAMP_INFINITY:
        return DATE_INFINITY
    if timestamp == TIMESTAMP_NEGATIVE_INFINITY:
        return DATE_NEGATIVE_INFINITY
    return timestamp // DAY_US


def add_to_timestamp(timestamp: int, interval: Interval) -> int:
    """`timestamp + interval`: months are added first, then days, then the rest. Raises RowError."""
    if intervals.is_infinite(interval):
        return _add_infinite(timestamp, interval)
    if timestamp in _INFINITE_TIMESTAMPS:
        return timestamp
    if interval.months:
        timestamp = _checked(_add_months(timestamp, interval.months))
    if interval.days:
        timestamp = _checked(timestamp + interval.days * DAY_US)
    return _checked(timestamp + interval.microseconds)


def subtract_from_timestamp(timestamp: int, interval: Interval) -> int:
    """`timestamp - interval`. Raises RowError."""
    return add_to_timestamp(timestamp, intervals.negate(interval))


def _add_infinite(timestamp: int, interval: Interval) -> int:
    wanted = TIMESTAMP_INFINITY if interval == INFINITY else TIMESTAMP_NEGATIVE_INFINITY
    if timestamp in _INFINITE_TIMESTAMPS and timestamp != wanted:
        raise RowError("timestamp out of range")
    return wanted


def _add_months(timestamp: int, months: int) -> int:
    days, clock = divmod(timestamp, DAY_US)
    year, month, day = civil_from_days(days)
    year_shift, month = divmod(month - 1 + months, 12)
    year, month = year + year_shift, month + 1
    return days_from_civil(year, month, min(day, days_in_month(year, month))) * DAY_US + clock


def _checked(timestamp: int) -> int:
    if not FIRST_TIMESTAMP <= timestamp < END_TIMESTAMP:
        raise RowError("timestamp out of range")
    return timestamp


def subtract_timestamps(left: int, right: int) -> Interval:
    """`left - right`: days and less, no months. Raises RowError."""
    infinite = {TIMESTAMP_INFINITY: 1, TIMESTAMP_NEGATIVE_INFINITY: -1}
    sign = infinite.get(left, 0) - infinite.get(right, 0)
    if left in infinite or right in infinite:
        if left == right:
            raise RowError("interval out of range")
        return INFINITY if sign > 0 else NEGATIVE_INFINITY
    return intervals.justify_hours(intervals.checked(0, 0, left - right))


def subtract_finite_timestamps(left: int, right: int) -> Interval:
    """`left - right` before Postgres 17, which has no infinite interval. Raises RowError."""
    if left in _INFINITE_TIMESTAMPS or right in _INFINITE_TIMESTAMPS:
        raise RowError("cannot subtract infinite timestamps")
    return subtract_timestamps(left, right)


def join_date_and_time(day: int, time: int) -> int:
    """The timestamp of a date and a time of day. Raises RowError."""
    timestamp = date_to_timestamp(day)
    return timestamp if timestamp in _INFINITE_TIMESTAMPS else _checked(timestamp + time)


def add_to_time(time: int, interval: Interval) -> int:
    """`time + interval`, modulo 24 hours. Raises RowError."""
    if intervals.is_infinite(interval):
        raise RowError("cannot add infinite interval to time")
    return (time + interval.microseconds) % DAY_US


def subtract_from_time(time: int, interval: Interval) -> int:
    """`time - interval`, modulo 24 hours. Raises RowError."""
    if intervals.is_infinite(interval):
        raise RowError("cannot subtract infinite interval from time")
    return (time - interval.microseconds) % DAY_US


def zone_offset(zone: str) -> int:
    """How many microseconds a zone is ahead of UTC. Raises RowError for zones other than UTC and fixed
    offsets.

    In `AT TIME ZONE`, offsets have POSIX signs: `+02` is west of Greenwich.
    """
    if zone.lower() in ("utc", "gmt", "z"):
        return 0
    found = _FIXED_ZONE.fullmatch(zone)
    if found is None or int(found[2]) > 15 or int(found[3] or 0) > 59 or int(found[4] or 0) > 59:
        raise RowError(f'time zone "{zone[:60]}" is not supported, only UTC and fixed offsets are')
    seconds = int(found[2]) * 3600 + int(found[3] or 0) * 60 + int(found[4] or 0)
    return seconds * (-1_000_000 if found[1] == "+" else 1_000_000)


def is_fixed_zone(zone: str) -> bool:
    """Whether `zone_offset` knows the zone."""
    try:
        zone_offset(zone)
    except RowError:
        return False
    return True


def to_zone(zone: str, timestamp: int) -> int:
    """`timestamptz AT TIME ZONE zone`. Raises RowError."""
    return _shifted(timestamp, zone_offset(zone))


def from_zone(zone: str, timestamp: int) -> int:
    """`timestamp AT TIME ZONE zone`. Raises RowError."""
    return _shifted(timestamp, -zone_offset(zone))


def _shifted(timestamp: int, offset: int) -> int:
    return timestamp if timestamp in _INFINITE_TIMESTAMPS else _checked(timestamp + offset)


def _of_timestamps(name: str) -> Iterator[tuple[str, Operation]]:
    """The operations that timestamp and timestamptz have in common."""
    yield from comparisons(name, name, is_keyed=True, has_ordered_text=True).items()
    yield from comparisons(name, "date", operands=("{0}", "timestamp_of_date({1})")).items()
    yield from comparisons("date", name, operands=("timestamp_of_date({0})", "{1}")).items()
    yield f"{name} + interval", raises(add_to_timestamp)
    yield f"interval + {name}", raises(lambda interval, timestamp: add_to_timestamp(timestamp, interval))
    yield f"{name} - interval", raises(subtract_from_timestamp)
    yield f"{name} - {name}", raises(subtract_timestamps).before(170_000, raises(subtract_finite_timestamps))
    yield f"date::{name}", raises(date_to_timestamp)
    yield f"{name}::date", calls(timestamp_to_date)


TYPES: Final = {
    "time": TypeIO(read_time, read_time, write_time, is_canonical=True),
    "timestamp": TypeIO(decode_timestamp, read_timestamp, write_timestamp, is_canonical=True),
    "timestamptz": TypeIO(decode_timestamp, read_timestamptz, write_timestamptz, is_canonical=True),
}
OPERATIONS: Final = {
    **dict(_of_timestamps("timestamp")),
    **dict(_of_timestamps("timestamptz")),
    **comparisons("timestamp", "timestamptz"),
    **comparisons("timestamptz", "timestamp"),
    **comparisons("time", "time", is_keyed=True),
    "date + time": raises(join_date_and_time),
    "time + date": raises(lambda time, day: join_date_and_time(day, time)),
    "date + interval": raises(lambda day, interval: add_to_timestamp(date_to_timestamp(day), interval)),
    "interval + date": raises(lambda interval, day: add_to_timestamp(date_to_timestamp(day), interval)),
    "date - interval": raises(
        lambda day, interval: subtract_from_timestamp(date_to_timestamp(day), interval)
    ),
    "time + interval": raises(add_to_time),
    "interval + time": raises(lambda interval, time: add_to_time(time, interval)),
    "time - interval": raises(subtract_from_time),
    "time - time": raises(lambda left, right: Interval(0, 0, left - right)),
    "timezone(text, timestamptz)": raises(to_zone),
    "timezone(text, timestamp)": raises(from_zone),
    "timestamp::timestamptz": inline("{0}"),
    "timestamptz::timestamp": inline("{0}"),
    "time::interval": calls(lambda time: Interval(0, 0, time)),
}
