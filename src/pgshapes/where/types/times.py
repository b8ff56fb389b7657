"""date, time, timestamp and timestamptz as the integers that Postgres stores.

A date is days since 2000-01-01, a timestamp microseconds since 2000-01-01 00:00 (UTC for timestamptz), a
time microseconds since midnight; infinities are the ends of the stored integer. Proleptic Gregorian
calendar with BC years, far beyond Python's `datetime`. Sessions run with TimeZone UTC and DateStyle ISO
(semantics §3).

Users may write ISO forms only: what `yesterday` or `01/02/03` means depends on clock and settings.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from pgshapes.where.types.operation import BadLiteral

DAY_US: Final = 86_400_000_000
DATE_INFINITY: Final = 2**31 - 1
DATE_NEGATIVE_INFINITY: Final = -(2**31)
TIMESTAMP_INFINITY: Final = 2**63 - 1
TIMESTAMP_NEGATIVE_INFINITY: Final = -(2**63)
FIRST_DAY: Final = -2_451_545
"""4714-11-24 BC, Julian day 0: nothing is before it (manual: Date/Time Types)."""
LAST_DAY: Final = 2_145_031_948
"""5874897-12-31, the last date."""
FIRST_TIMESTAMP: Final = -211_813_488_000_000_000
END_TIMESTAMP: Final = 9_223_371_331_200_000_000
"""294277-01-01, the first instant that is too late."""

_DATE: Final = r"(?P<year>\d{4,7})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
_CLOCK: Final = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{0,6}))?)?"
_ZONE: Final = r" ?(?P<zone>Z|UTC|GMT|(?P<sign>[+-])(?P<zh>\d{1,2})(?::?(?P<zm>\d{2})(?::(?P<zs>\d{2}))?)?)"
_ERA: Final = r"(?: (?P<era>BC|AD))?"
_DATE_FORM: Final = re.compile(_DATE + _ERA, re.ASCII | re.IGNORECASE)
_TIME_FORM: Final = re.compile(_CLOCK, re.ASCII)
_STAMP_FORM: Final = re.compile(rf"{_DATE}(?:[ T]{_CLOCK})?(?:{_ZONE})?{_ERA}", re.ASCII | re.IGNORECASE)
_ORDINAL_2000: Final = date(2000, 1, 1).toordinal()
_SPACE: Final = " \t\n\v\f\r"


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days from 2000-01-01 to a proleptic Gregorian date; year 0 is 1 BC."""
    shifted = year - (month <= 2)
    era, year_of_era = divmod(shifted, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 730_425


def civil_from_days(days: int) -> tuple[int, int, int]:
    """Year (0 is 1 BC), month and day of a day number."""
    era, day_of_era = divmod(days + 730_425, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + (3 if shifted_month < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, day


def days_in_month(year: int, month: int) -> int:
    """28 to 31."""
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def decode_date(text: str) -> int:
    """A date as the server writes it."""
    if len(text) == 10 and text[4] == "-":
        return date.fromisoformat(text).toordinal() - _ORDINAL_2000
    return read_date(text)


def read_date(text: str) -> int:
    """A date from a user's ISO text. Raises BadLiteral."""
    special = _infinity(text, DATE_INFINITY, DATE_NEGATIVE_INFINITY, -10_957)
    if special is not None:
        return special
    found = _DATE_FORM.fullmatch(text.strip(_SPACE))
    if found is None:
        raise BadLiteral
    days = _days(found)
    if not FIRST_DAY <= days <= LAST_DAY:
        raise BadLiteral(f'date out of range: "{text[:60]}"')
    return days


def write_date(days: int) -> str:
    """As `date_out` writes it under DateStyle ISO."""
    if days in (DATE_INFINITY, DATE_NEGATIVE_INFINITY):
        return "infinity" if days > 0 else "-infinity"
    day, era = _civil_text(days)
    return day + era


def read_time(text: str) -> int:
    """A time of day from a user's text, also as the server writes it. Raises BadLiteral."""
    found = _TIME_FORM.fullmatch(text.strip(_SPACE))
    if found is None:
        raise BadLiteral
    return _clock(found)


def write_time(microseconds: int) -> str:
    """As `time_out` writes it."""
    minutes, rest = divmod(microseconds, 60_000_000)
    seconds, fraction = divmod(rest, 1_000_000)
    digits = f".{fraction:06d}".rstrip("0") if fraction else ""
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}{digits}"


def decode_timestamp(text: str) -> int:
    """A timestamp as the server writes it, and a timestamptz under TimeZone UTC."""
    if len(text) > 18 and text[4] == "-" and text[13] == ":" and text[-1] != "C":
        days = date.fromisoformat(text[:10]).toordinal() - _ORDINAL_2000
        seconds = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
        rest = text[19:].removesuffix("+00")
        return (days * 86_400 + seconds) * 1_000_000 + (int(rest[1:].ljust(6, "0")) if rest else 0)
    return read_timestamptz(text)


def read_timestamp(text: str) -> int:
    """A timestamp from a user's ISO text; a zone is ignored, as Postgres does. Raises BadLiteral."""
    return _read_stamp(text, is_zoned=False)


def read_timestamptz(text: str) -> int:
    """A timestamptz from a user's ISO text; without a zone it is UTC. Raises BadLiteral."""
    return _read_stamp(text, is_zoned=True)


def write_timestamp(stamp: int) -> str:
    """As `timestamp_out` writes it under DateStyle ISO."""
    if stamp in (TIMESTAMP_INFINITY, TIMESTAMP_NEGATIVE_INFINITY):
        return "infinity" if stamp > 0 else "-infinity"
    days, clock = divmod(stamp, DAY_US)
    day, era = _civil_text(days)
    return f"{day} {write_time(clock)}{era}"


def write_timestamptz(stamp: int) -> str:
    """As `timestamptz_out` writes it under DateStyle ISO and TimeZone UTC."""
    text = write_timestamp(stamp)
    if text.endswith("infinity"):
        return text
    return text.removesuffix(" BC") + "+00 BC" if text.endswith(" BC") else text + "+00"


def _read_stamp(text: str, *, is_zoned: bool) -> int:
    special = _infinity(text, TIMESTAMP_INFINITY, TIMESTAMP_NEGATIVE_INFINITY, -10_957 * DAY_US)
    if special is not None:
        return special
    found = _STAMP_FORM.fullmatch(text.strip(_SPACE))
    if found is None or (found["zone"] and found["hour"] is None):
        raise BadLiteral
    clock = 0 if found["hour"] is None else _clock(found)
    offset = _offset(found)
    stamp = _days(found) * DAY_US + clock - (offset if is_zoned else 0)
    if not FIRST_TIMESTAMP <= stamp < END_TIMESTAMP:
        raise BadLiteral(f'timestamp out of range: "{text[:60]}"')
    return stamp


def _infinity(text: str, positive: int, negative: int, epoch: int) -> int | None:
    word = text.strip(_SPACE).lower()
    return {"infinity": positive, "-infinity": negative, "epoch": epoch}.get(word)


def _days(found: re.Match[str]) -> int:
    year, month, day = int(found["year"]), int(found["month"]), int(found["day"])
    if year == 0:
        raise BadLiteral(f'date/time field value out of range: "{found[0][:60]}"')
    if found["era"] and found["era"].upper() == "BC":
        year = 1 - year
    if not 1 <= month <= 12 or not 1 <= day <= days_in_month(year, month):
        raise BadLiteral(f'date/time field value out of range: "{found[0][:60]}"')
    return days_from_civil(year, month, day)


def _clock(found: re.Match[str]) -> int:
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    fraction = int((found["fraction"] or "").ljust(6, "0"))
    microseconds = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
    if minute > 59 or second > 60 or microseconds > DAY_US:
        raise BadLiteral(f'date/time field value out of range: "{found[0][:60]}"')
    return microseconds


def _offset(found: re.Match[str]) -> int:
    """Microseconds that the zone is ahead of UTC."""
    if not found["sign"]:
        return 0
    hours, minutes, seconds = int(found["zh"]), int(found["zm"] or 0), int(found["zs"] or 0)
    if hours > 15 or minutes > 59 or seconds > 59:
        raise BadLiteral(f'time zone displacement out of range: "{found["zone"]}"')
    return (hours * 3600 + minutes * 60 + seconds) * (1_000_000 if found["sign"] == "+" else -1_000_000)


def _civil_text(days: int) -> tuple[str, str]:
    year, month, day = civil_from_days(days)
    era = " BC" if year <= 0 else ""
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}", era
