"""Operations that differ from Python's: patterns, case mapping, quotients, dates and times, intervals,
arrays, jsonb.
"""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.where.collation import Collation
from pgshapes.where.types import arrays, documents, intervals, numerics, texts, timestamps
from pgshapes.where.types.arrays import decode_array, element_at, slice_of, stack
from pgshapes.where.types.documents import read_document
from pgshapes.where.types.intervals import INFINITY, Interval, read_interval, write_interval
from pgshapes.where.types.operation import RowError
from pgshapes.where.types.patterns import escaped_pattern, like
from pgshapes.where.types.timestamps import read_timestamp, write_timestamp

MARKS = st.text("ab%_\\\n", max_size=8)


def _like_by_regex(text: str, pattern: str) -> bool:
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    return (
        re.fullmatch("".join(wild.get(part) or re.escape(part[-1]) for part in parts), text, re.DOTALL)
        is not None
    )


@given(st.text("ab\n", max_size=8), MARKS)
def test_like_is_what_its_regular_expression_says(text: str, pattern: str) -> None:
    """For patterns that do not end with their escape character."""
    if len(pattern) - len(pattern.rstrip("\\")) & 1 == 0:
        assert like(text, pattern) == _like_by_regex(text, pattern)


def test_no_pattern_is_slow() -> None:
    """A backtracking expression would take exponential time."""
    assert not like("a" * 5_000, "%a" * 40 + "%b")
    assert like("a" * 5_000, "%a" * 40 + "%")


@pytest.mark.parametrize(
    ("text", "pattern"), [("b", "a\\"), ("", "a\\"), ("", "%\\"), ("ab", "_b_\\"), ("ab", "%c\\")]
)
def test_a_malformed_pattern_may_not_match_before_it_fails(text: str, pattern: str) -> None:
    """Postgres says FALSE when it finds a difference first."""
    assert not like(text, pattern)


@pytest.mark.parametrize(
    ("text", "pattern"), [("a", "\\"), ("ab", "a\\"), ("ab", "%\\"), ("ab", "%b\\"), ("a", "%_\\")]
)
def test_a_malformed_pattern_may_fail(text: str, pattern: str) -> None:
    """Postgres raises an error when it finds no difference."""
    if pattern == "%b\\":
        assert not like(text, pattern)
        return
    with pytest.raises(RowError):
        assert like(text, pattern) is None


def test_escape_characters_are_rewritten() -> None:
    """`LIKE … ESCAPE …`."""
    assert escaped_pattern("a#%b\\", "#") == "a\\%b\\\\"
    assert escaped_pattern("a\\b", "") == "a\\\\b"
    assert escaped_pattern("a\\b", "\\") == "a\\b"
    with pytest.raises(RowError):
        escaped_pattern("a", "ab")


def test_letters_fold_by_the_rules_of_their_collation() -> None:
    """C maps ASCII, libc single characters, ICU whole strings."""
    c, libc, icu = Collation("C", "c"), Collation("en_US.UTF-8", "c"), Collation("en", "i")
    lower = {name: texts.lower_of(one, 0) for name, one in (("c", c), ("libc", libc), ("icu", icu))}
    assert all(lower.values())
    assert lower["c"] is not None and lower["c"]("ÄA") == "Äa"
    assert lower["libc"] is not None and lower["libc"]("ΑΣİ") == "ασi"  # noqa: RUF001 - Greek letters
    assert lower["icu"] is not None and lower["icu"]("ΑΣ") == "ας"
    upper = texts.upper_of(libc, 0)
    assert upper is not None and upper("ßᾀﬁ") == "ßᾈﬁ"
    assert texts.lower_of(Collation("tr_TR.UTF-8", "c"), 0) is None
    assert texts.upper_of(Collation("az-x-icu", "i"), 0) is None


def test_the_builtin_provider_of_18_knows_unicode_16() -> None:
    """That of 17 does not."""
    builtin = Collation("C.UTF-8", "b")
    for version, expected in ((180_000, "\ua7db"), (170_000, "\ua7da")):
        lower = texts.lower_of(builtin, version)
        assert lower is not None and lower("\ua7da") == expected


@pytest.mark.parametrize(
    ("left", "right", "quotient"),
    [
        ("1", "3", "0.33333333333333333333"),
        ("10", "4", "2.5000000000000000"),
        ("1", "8000", "0.00012500000000000000"),
        ("-2", "3", "-0.66666666666666666667"),
        ("12345678901234567890", "7", "1763668414462081127"),
        ("1.5", "Infinity", "0"),
    ],
)
def test_quotients_have_postgres_scales(left: str, right: str, quotient: str) -> None:
    """As `select_div_scale()` chooses them."""
    assert str(numerics.divide(Decimal(left), Decimal(right))) == quotient


def test_numeric_errors() -> None:
    """Division by zero, overflow; infinities make NaN."""
    with pytest.raises(RowError):
        numerics.divide(Decimal(1), Decimal(0))
    with pytest.raises(RowError):
        numerics.multiply(Decimal("1e70000"), Decimal("1e70000"))
    assert repr(numerics.subtract(Decimal("Infinity"), Decimal("Infinity"))) == "NaN"


@pytest.mark.parametrize(
    ("stamp", "span", "expected"),
    [
        ("2024-01-31 12:00:00", "1 mon", "2024-02-29 12:00:00"),
        ("2024-02-29 00:00:00", "1 year", "2025-02-28 00:00:00"),
        ("2024-03-31 00:00:00", "-1 mon -1 day", "2024-02-28 00:00:00"),
        ("infinity", "1 day", "infinity"),
        ("0001-01-01 00:00:00", "-1 day", "0001-12-31 00:00:00 BC"),
    ],
)
def test_timestamps_and_intervals(stamp: str, span: str, expected: str) -> None:
    """Months first, to the last day of a shorter month, then days, then time."""
    assert (
        write_timestamp(timestamps.add_to_timestamp(read_timestamp(stamp), read_interval(span))) == expected
    )


def test_calendars_end() -> None:
    """Infinite timestamps cannot be subtracted before Postgres 17."""
    last = read_timestamp("294276-12-31 23:59:59.999999")
    with pytest.raises(RowError):
        timestamps.add_to_timestamp(last, Interval(0, 0, 1))
    endless = read_timestamp("infinity")
    with pytest.raises(RowError):
        timestamps.subtract_finite_timestamps(endless, last)
    assert timestamps.subtract_timestamps(endless, last) == INFINITY
    with pytest.raises(RowError):
        timestamps.subtract_timestamps(endless, endless)


@pytest.mark.parametrize(
    ("zone", "hours"), [("UTC", 0), ("gmt", 0), ("+02", -2), ("-03:30", 3.5), ("UTC+1", -1)]
)
def test_fixed_zones_have_posix_signs(zone: str, hours: float) -> None:
    """West is positive."""
    assert timestamps.zone_offset(zone) == hours * 3_600_000_000


def test_zones_with_rules_are_not_known() -> None:
    """They depend on the server's tables."""
    assert not timestamps.is_fixed_zone("Europe/Berlin")


@pytest.mark.parametrize(
    ("span", "factor", "expected"),
    [
        ("1 mon", 1.5, "P1M15D"),
        ("1 day", 0.5, "PT12H"),
        ("1 year 1 mon", 0.1, "P1M9D"),
        ("-1 mon", 0.33, "P-9DT-21H-36M"),
    ],
)
def test_intervals_are_scaled(span: str, factor: float, expected: str) -> None:
    """Fractions become smaller units, rounded to microseconds."""
    assert write_interval(intervals.multiply(read_interval(span), factor)) == expected


def test_intervals_are_justified() -> None:
    """Hours to days, days to months, all of one sign."""
    assert write_interval(intervals.justify_hours(read_interval("1 day 25 hours"))) == "P2DT1H"
    assert write_interval(intervals.justify_days(read_interval("65 days"))) == "P2M5D"
    assert write_interval(intervals.justify_interval(read_interval("1 mon -1 hour"))) == "P29DT23H"


def test_arrays_are_joined_and_cut() -> None:
    """Containment, concatenation, subscripts, slices."""
    matrix = decode_array("{{1,2},{3,4}}", int)
    row = decode_array("{5,6}", int)
    joined = arrays.concatenate(matrix, row)
    assert joined == decode_array("{{1,2},{3,4},{5,6}}", int)
    with pytest.raises(RowError):
        arrays.concatenate(matrix, decode_array("{1}", int))
    assert arrays.contains(matrix, decode_array("{4,1}", int))
    assert not arrays.contains(row, decode_array("{NULL}", int))
    assert arrays.overlaps(row, decode_array("{NULL,6}", int))
    assert element_at(matrix, (2, 1)) == 3
    assert element_at(matrix, (3, 1)) is None
    assert element_at(matrix, (1,)) is None
    assert slice_of(matrix, (2,), (9,), ((True, True),)) == decode_array("{{3,4}}", int)
    assert stack((row, row)) == decode_array("{{5,6},{5,6}}", int)
    with pytest.raises(RowError):
        stack((row, decode_array("{1}", int)))


@pytest.mark.parametrize(
    ("left", "right", "holds"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b": [2]}', True),
        ('{"a": {"b": 1}}', '{"b": 1}', False),
        ('["a", "b"]', '"a"', True),
        ('"a"', '["a"]', False),
        ("[1, [2]]", "[[2]]", True),
        ("[1]", "[1, 1]", True),
        ("[true]", "[1]", False),
    ],
)
def test_documents_contain_documents(left: str, right: str, holds: bool) -> None:
    """By structure; a bare scalar may stand for an array's element."""
    assert documents.contains(read_document(left), read_document(right)) is holds


def test_documents_are_taken_apart() -> None:
    """Fields, elements from either end, paths, keys."""
    one = read_document('{"a": [1, {"b": null}], "c": "x"}')
    field = documents.field(one, "a")
    assert field is not None
    assert documents.as_text(documents.element(field, -2)) == "1"
    assert documents.as_text(documents.at_path(one, decode_array("{a,1,b}", str))) is None
    assert documents.as_text(documents.field(one, "c")) == "x"
    assert documents.as_text(field) == '[1, {"b": null}]'
    assert documents.has_any_key(one, decode_array("{z,c}", str))
    assert not documents.has_all_keys(one, decode_array("{z,c}", str))
