"""Values of types: how they are read, written and compared."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgshapes.where.pg_catalog import TYPES_BY_NAME
from pgshapes.where.types import arrays, dates, documents, floats, integers, intervals, numerics, timestamps
from pgshapes.where.types.operation import BadLiteral, RowError
from pgshapes.where.types.registry import type_io

FIRST, LAST = dates.FIRST_DAY, dates.LAST_DAY


@given(st.integers(FIRST, LAST))
def test_dates_are_written_and_read(days: int) -> None:
    """From 4714 BC to 5874897, by both readers."""
    text = dates.write_date(days)
    assert dates.read_date(text) == dates.decode_date(text) == days


@given(st.integers(timestamps.FIRST_TIMESTAMP, timestamps.END_TIMESTAMP - 1))
def test_timestamps_are_written_and_read(stamp: int) -> None:
    """To the microsecond, with and without zone."""
    assert timestamps.decode_timestamp(timestamps.write_timestamp(stamp)) == stamp
    assert timestamps.decode_timestamp(timestamps.write_timestamptz(stamp)) == stamp


@given(st.integers(FIRST, LAST), st.integers(FIRST, LAST))
def test_common_dates_are_ordered_by_their_text(left: int, right: int) -> None:
    """In years 0001 to 9999: range clauses rely on it."""
    texts = [dates.write_date(day) for day in (left, right)]
    if all(len(text) == 10 for text in texts):
        assert (texts[0] < texts[1]) == (left < right)


@pytest.mark.parametrize("text", ["infinity", "-infinity", "4713-01-01 BC", "10000-01-01"])
def test_uncommon_dates_do_not_look_common(text: str) -> None:
    """The test that precedes the comparison by text."""
    assert not (text[4:5] == "-" and text[-1] != "C")


PARTS = st.integers(-(2**31), 2**31 - 1)


@given(PARTS, PARTS, st.integers(-(2**63), 2**63 - 1))
def test_intervals_are_written_and_read(months: int, days: int, microseconds: int) -> None:
    """Part by part, in the server's own form."""
    text = intervals.write_interval(intervals.Interval(months, days, microseconds))
    found = intervals.read_interval(text)
    assert (found.months, found.days, found.microseconds) == (months, days, microseconds)


def test_intervals_compare_by_their_span() -> None:
    """A month is 30 days, a day 24 hours."""
    month, days = intervals.read_interval("1 mon"), intervals.read_interval("30 days")
    assert month == days
    assert hash(month) == hash(days)
    assert month < intervals.read_interval("30 days 00:00:01")
    assert intervals.NEGATIVE_INFINITY < month < intervals.INFINITY


ITEMS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0")))


@given(st.lists(ITEMS, max_size=6).map(tuple))
def test_arrays_are_written_and_read(items: tuple[str | None, ...]) -> None:
    """Whatever the texts in them: quotes, braces, blanks, NULL."""
    array = arrays.vector(items)
    text = arrays.write_array(array, str)
    assert arrays.read_array(text, str) == array
    assert arrays.decode_array(text, str) == array


@pytest.mark.parametrize(
    "text", ["{{1,2},{3,4}}", "[0:1]={5,6}", "[2:3][-1:0]={{1,2},{3,NULL}}", "{}", '{"a\\"b",""}']
)
def test_arrays_keep_dimensions_and_bounds(text: str) -> None:
    """As the server writes them."""
    assert arrays.write_array(arrays.decode_array(text, str), str) == text


@pytest.mark.parametrize(
    "text", ["", "1", "{1", "{1}}", "{1,}", "{{1},{1,2}}", "[1:2]={1}", "[a]={1}", '{"a}', "{" * 9]
)
def test_malformed_arrays_are_refused(text: str) -> None:
    """With BadLiteral."""
    with pytest.raises(BadLiteral):
        arrays.read_array(text, str)


@given(st.floats(width=32, allow_nan=False))
def test_float4_texts_are_rounded_once(value: float) -> None:
    """The text of a float4, and a text just beside the middle of two."""
    assert floats.nearest_float4(repr(value)) == value
    step = math.ulp(value) * 2**28
    if math.isfinite(value) and 1e-30 < abs(value) < 1e30:
        middle = Decimal(value) + Decimal(step)
        beside = middle - Decimal("1e-60") if value > 0 else middle + Decimal("1e-60")
        assert abs(floats.nearest_float4(str(beside))) <= abs(value) + 2 * step


def test_nan_is_equal_to_itself_and_above_all() -> None:
    """Among floats and numerics."""
    nan = floats.decode_float8("NaN")
    assert nan == numerics.decode_numeric("NaN") == numerics.NAN
    assert nan > math.inf
    assert sorted([nan, 1.0, nan, -math.inf]) == [-math.inf, 1.0, nan, nan]
    assert Decimal("Infinity") < nan
    assert nan >= 1
    assert not nan < 1
    assert Decimal("1.5") < nan


@pytest.mark.parametrize(
    ("text", "size"), [("32768", 2), ("-2147483649", 4), ("1" * 500, 8), ("", 4), ("1.0", 4)]
)
def test_integers_out_of_range_are_refused(text: str, size: int) -> None:
    """So is text that is not an integer."""
    with pytest.raises(BadLiteral):
        integers.read_integer(text, size)


def test_float4_overflow_and_underflow_are_errors() -> None:
    """As in a cast from float8."""
    with pytest.raises(RowError):
        floats.round_to_float4(1e300)
    with pytest.raises(RowError):
        floats.round_to_float4(1e-300)
    assert floats.round_to_float4(math.inf) == math.inf


def test_documents_tell_numbers_from_booleans() -> None:
    """Equal documents are equal in Python; numbers by value, not by scale."""
    read = documents.read_document
    assert read("1") != read("true")
    assert read("[1.0]") == read("[1]")
    assert (
        documents.write_document(read('{"bb": 1e2, "a": [null, "\\u00e9\\n"]}'))
        == '{"a": [null, "é\\n"], "bb": 100}'
    )
    for bad in ("{", "NaN", '"\\ud800"', '"\\u0000"', "[" * 5000):
        with pytest.raises(BadLiteral):
            read(bad)


def test_every_type_reads_what_it_writes() -> None:
    """One value each."""
    samples = {
        "bool": "t",
        "bytea": "\\x00ff",
        "uuid": "00000000-0000-0000-0000-000000000001",
        "time": "23:59:59.5",
    }
    for name, text in samples.items():
        io = type_io(TYPES_BY_NAME[name])
        assert io is not None
        assert io.write(io.read(text)) == io.write(io.decode(text)) == text
    assert type_io(TYPES_BY_NAME["inet"]) is None
    assert type_io(TYPES_BY_NAME["_bpchar"]) is None


@pytest.mark.parametrize(
    "text",
    [" P1D", "P1D ", "\tPT1S", "P1D\n", "1day2hours", "1day+2h", "1d-2h", "1 hour-2 minutes", "1day02:03"],
)
def test_intervals_that_postgres_refuses(text: str) -> None:
    """Blanks around the ISO form, and what belongs to a word because no blank ends it."""
    with pytest.raises(BadLiteral):
        intervals.read_interval(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [(" 1 day ", "P1D"), ("\t5", "PT5S"), (" 01:02 ", "PT1H2M"), ("1d2h", "P1DT2H"), ("1h+2m", "PT1H2M")],
)
def test_intervals_that_postgres_takes(text: str, written: str) -> None:
    assert intervals.write_interval(intervals.read_interval(text)) == written
