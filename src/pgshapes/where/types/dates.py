"""date: its values, arithmetic and comparisons, and the calendar (manual: Date/Time Types; Date/Time
Functions and Operators).

A date is the number of days since 2000-01-01, as Postgres stores it; infinities are the ends of the stored
integer. The calendar is proleptic Gregorian with BC years, beyond the range of Python's `datetime`. Sessions
run with DateStyle ISO.

Clients may write ISO forms only: the meaning of `yesterday` or `01/02/03` depends on clock and settings.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from pgshapes.where.types.operation import SPACE, BadLiteral, RowError, TypeIO, comparisons, raises

DAY_US: Final = 86_400_000_000
DATE_INFINITY: Final = 2**31 - 1
DATE_NEGATIVE_INFINITY: Final = -(2**31)
_INFINITE_DATES: Final = (DATE_INFINITY, DATE_NEGATIVE_INFINITY)
FIRST_DAY: Final = -2_451_545
"""4714-11-24 BC, Julian day 0, the first date (manual: Date/Time Types)."""
LAST_DAY: Final = 2_145_031_948
"""5874897-12-31, the last date."""

DATE_FORM: Final = r"(?P<year>\d{4,7})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
ERA_FORM: Final = r"(?: (?P<era>BC|AD))?"
_FORM: Final = re.compile(DATE_FORM + ERA_FORM, re.ASCII | re.IGNORECASE)
ORDINAL_2000: Final = date(2000, 1, 1).toordinal()


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
    """The number of days of a month, 28 to 31."""
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def decode_date(text: str) -> int:
    """A date from the server's text."""
    if len(text) == 10 and text[4] == "-":
        return date.fromisoformat(text).toordinal() - ORDINAL_2000
    return read_date(text)


def read_date(text: str) -> int:
    """A date from a client's ISO text. Raises BadLiteral."""
    special = special_word(text, DATE_INFINITY, DATE_NEGATIVE_INFINITY, -10_957)
    if special is not None:
        return special
    found = _FORM.fullmatch(text.strip(SPACE))
    if found is None:
        raise BadLiteral
    days = days_of(found)
    if not FIRST_DAY <= days <= LAST_DAY:
        raise BadLiteral(f'date out of range: "{text[:60]}"')
    return days


def write_date(days: int) -> str:
    """The text that `date_out` writes under DateStyle ISO."""
    if days in (DATE_INFINITY, DATE_NEGATIVE_INFINITY):
        return "infinity" if days > 0 else "-infinity"
    day, era = civil_text(days)
    return day + era


def special_word(text: str, positive: int, negative: int, epoch: int) -> int | None:
    """The value of `infinity`, `-infinity` or `epoch`, None for any other text."""
    word = text.strip(SPACE).lower()
    return {"infinity": positive, "-infinity": negative, "epoch": epoch}.get(word)


def days_of(found: re.Match[str]) -> int:
    """The day of a match of `DATE_FORM` and `ERA_FORM`. Raises BadLiteral."""
    year, month, day = int(found["year"]), int(found["month"]), int(found["day"])
    if year == 0:
        raise BadLiteral(f'date/time field value out of range: "{found[0][:60]}"')
    if found["era"] and found["era"].upper() == "BC":
        year = 1 - year
    if not 1 <= month <= 12 or not 1 <= day <= days_in_month(year, month):
        raise BadLiteral(f'date/time field value out of range: "{found[0][:60]}"')
    return days_from_civil(year, month, day)


def civil_text(days: int) -> tuple[str, str]:
    """The date of a day as text, and the era, "" unless it is BC."""
    year, month, day = civil_from_days(days)
    era = " BC" if year <= 0 else ""
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}", era


def add_days(day: int, days: int) -> int:
    """The date `days` later. Raises RowError."""
    if day in _INFINITE_DATES:
        return day
    if not FIRST_DAY <= day + days <= LAST_DAY:
        raise RowError("date out of range")
    return day + days


def subtract_dates(left: int, right: int) -> int:
    """The number of days between two dates. Raises RowError."""
    if left in _INFINITE_DATES or right in _INFINITE_DATES:
        raise RowError("cannot subtract infinite dates")
    return left - right


TYPES: Final = {"date": TypeIO(decode_date, read_date, write_date, is_canonical=True)}
OPERATIONS: Final = {
    **comparisons("date", "date", is_keyed=True, has_ordered_text=True),
    "date + int4": raises(add_days),
    "int4 + date": raises(lambda days, day: add_days(day, days)),
    "date - int4": raises(lambda day, days: add_days(day, -days)),
    "date - date": raises(subtract_dates),
}
