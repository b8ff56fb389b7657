"""Values for the oracle, edge cases first: for rows and for literals in clauses.

Texts by type that every server from 14 on accepts; random ones are added.
"""

from __future__ import annotations

import random

_WORDS = [
    "",
    "a",
    "A",
    "ab",
    "AB",
    "abc",
    "Foo",
    "foo bar",
    "100%",
    "a_b",
    "a\\b",
    "a'b",
    'a"b',
    "  ",
    "a ",
    " a",
]
_STRANGE = [
    "é",
    "e\u0301",
    "ß",
    "ẞ",
    "İ",
    "ı",  # noqa: RUF001 - the letter is the sample
    "Σ",
    "ς",
    "σας",
    "ΣΑΣ",
    "𝒜",  # noqa: RUF001 - the letter is the sample
    "🙂",
    "ŉ",
    "ﬁ",
    "K",
    "a\nb",
    "\u00a0",
    "NULL",
    "\uffff",
]
_NUMBERS = ["0", "1", "-1", "2", "3", "7", "10", "100"]
_INT2 = [*_NUMBERS, "32767", "-32768", "32766"]
_INT4 = [*_NUMBERS, "2147483647", "-2147483648", "2147483646", "65536", "-32769"]
_INT8 = [
    *_NUMBERS,
    "9223372036854775807",
    "-9223372036854775808",
    "9007199254740993",
    "2147483648",
    "16777217",
]
_NUMERIC = [
    *_NUMBERS,
    *("NaN", "Infinity", "-Infinity", "1.5", "1.50", "-2.5", "0.1", "0.00", "12345678901234567890.123456789"),
    *(
        "0.000000000000000000001",
        "99999999999999999999999999999999",
        "-0.5",
        "2.5",
        "3.5",
        "33.333",
        "1e5",
        "1e-7",
    ),
]
_FLOATS = [*_NUMBERS, "NaN", "Infinity", "-Infinity", "-0", "0.1", "1.5", "2.5", "1e10", "-3.25", "16777217"]
_FLOAT4 = [*_FLOATS, "3.4028235e38", "1e-45", "1.1754944e-38", "0.3"]
_FLOAT8 = [*_FLOATS, "1.7976931348623157e308", "5e-324", "0.30000000000000004", "1e22", "123456789.125"]
_DATES = [
    *(
        "2024-02-29",
        "2023-03-31",
        "2000-01-01",
        "1999-12-31",
        "infinity",
        "-infinity",
        "epoch",
        "4713-01-01 BC",
    ),
    *(
        "5874897-12-31",
        "0001-01-01",
        "0044-03-15 BC",
        "294276-12-31",
        "10000-01-01",
        "2024-12-31",
        "1900-02-28",
    ),
]
_TIMES = ["00:00:00", "24:00:00", "12:30", "23:59:60", "23:59:59.999999", "01:02:03.4", "12:00:00.000001"]
_STAMPS = [
    *("2024-02-29 12:30:00", "2023-03-31 00:00:00", "2000-01-01 00:00:00", "infinity", "-infinity", "epoch"),
    *(
        "1999-12-31 23:59:60",
        "2024-01-01 12:00:00.000001",
        "294276-12-31 23:59:59.999999",
        "0001-01-01 00:00:00",
    ),
    *("4713-11-24 00:00:00 BC", "2024-02-29", "10000-06-15 01:02:03.5", "0044-03-15 10:00:00 BC"),
]
_ZONED = [*_STAMPS, "2024-02-29 12:30:00+02", "2024-02-29T12:30:00Z", "2024-02-29 12:30:00-03:30"]
_INTERVALS = [
    *(
        "0",
        "1 day",
        "-1 day",
        "24 hours",
        "1 mon",
        "30 days",
        "-1 mon 30 days",
        "1 year 2 mons 3 days 04:05:06.7",
    ),
    *(
        "-00:00:01",
        "1 mon -1 day",
        "12 mons",
        "360 days",
        "1 year",
        "00:00:00.000001",
        "-1 year -2 mons +3 days",
    ),
    *(
        "178000000 years",
        "2147483647 days",
        "100 days 25:00:00",
        "1 week",
        "P1Y2M3DT4H5M6S",
        "P-1D",
        "-36:00:00",
    ),
]
_UUIDS = [
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
    "a0eebc999c0b4ef8bb6d6bb9bd380a11",
]
_BYTEA = ["\\x", "\\x00", "\\xdeadbeef", "\\xDE AD", "abc", "a\\000b", "\\x61"]
_JSON = [
    *(
        "null",
        "true",
        '"a"',
        "1",
        "1.0",
        "1.50",
        "[]",
        "{}",
        '{"a": 1}',
        '{"a": {"b": [1, 2, null]}}',
        '["a", "b"]',
    ),
    *(
        '{"a": "x", "b": null}',
        "[1, [2, 3], 2]",
        '{"": "", "aa": 1e2, "b": -0.0}',
        '"\\u00e9\\n\\""',
        '[{"a": 1}]',
    ),
]
_INT_ARRAYS = [
    "{}",
    "{1}",
    "{1,2,3}",
    "{3,2,1}",
    "{NULL}",
    "{1,NULL,2}",
    "{{1,2},{3,4}}",
    "[0:1]={5,6}",
    "{1,1}",
    "{7,10}",
]
_TEXT_ARRAYS = [
    "{}",
    "{a}",
    "{a,b}",
    '{"a b","",NULL}',
    '{NULL,"NULL"}',
    "{{a,b},{c,d}}",
    '{"a\\"b","c\\\\d"}',
    "{ab,AB}",
]
_NUMERIC_ARRAYS = ["{}", "{1.0}", "{1,1.5,NaN}", "{Infinity,NULL}", "{0.1,0.10}"]
_BOOL_ARRAYS = ["{}", "{t}", "{t,f,NULL}"]
MOODS = ["sad", "ok", "happy"]

EDGES: dict[str, list[str]] = {
    "int2": _INT2,
    "int4": _INT4,
    "int8": _INT8,
    "numeric": _NUMERIC,
    "float4": _FLOAT4,
    "float8": _FLOAT8,
    "bool": ["t", "f"],
    "text": [*_WORDS, *_STRANGE, "5", "t", "1.5"],
    "varchar": [*_WORDS, *_STRANGE],
    "bpchar": ["", "a", "ab", "ab  ", "AB", "é", " a"],
    "name": ["", "a", "ab", "Foo"],
    "uuid": _UUIDS,
    "date": _DATES,
    "time": _TIMES,
    "timestamp": _STAMPS,
    "timestamptz": _ZONED,
    "interval": _INTERVALS,
    "bytea": _BYTEA,
    "jsonb": _JSON,
    "mood": MOODS,
    "age": _INT4,
    "_int4": _INT_ARRAYS,
    "_text": _TEXT_ARRAYS,
    "_numeric": _NUMERIC_ARRAYS,
    "_bool": _BOOL_ARRAYS,
}


def random_value(pick: random.Random, kind: str) -> str:
    """An edge value in most cases, a random value in the others."""
    make = _RANDOM.get(kind)
    if make is not None and pick.random() < 0.3:
        return make(pick)
    return pick.choice(EDGES[kind])


def _numeric(pick: random.Random) -> str:
    digits = str(pick.randint(0, 10 ** pick.randint(1, 25)))
    point = pick.randint(0, len(digits))
    sign = pick.choice(["", "-"])
    return f"{sign}{digits[:point] or '0'}.{digits[point:]}{'0' * pick.randint(0, 4)}0"


def _word(pick: random.Random) -> str:
    alphabet = "abcABC%_\\ éΣ🙂'"
    return "".join(pick.choice(alphabet) for _ in range(pick.randint(0, 6)))


def _stamp(pick: random.Random) -> str:
    date = f"{pick.randint(1, 9999):04d}-{pick.randint(1, 12):02d}-{pick.randint(1, 28):02d}"
    clock = f"{pick.randint(0, 23):02d}:{pick.randint(0, 59):02d}:{pick.randint(0, 59):02d}"
    return f"{date} {clock}.{pick.randint(0, 999_999):06d}"


def _interval(pick: random.Random) -> str:
    months, days, hours = pick.randint(-30, 30), pick.randint(-70, 70), pick.randint(-60, 60)
    return f"{months} mons {days} days {hours} hours {pick.randint(-99999999, 99999999)} microseconds"


_RANDOM = {
    "int2": lambda pick: str(pick.randint(-(2**15), 2**15 - 1)),
    "int4": lambda pick: str(pick.randint(-(2**31), 2**31 - 1)),
    "int8": lambda pick: str(pick.randint(-(2**63), 2**63 - 1)),
    "numeric": _numeric,
    "float8": lambda pick: repr(pick.uniform(-1, 1) * 10.0 ** pick.randint(-12, 20)),
    "float4": lambda pick: f"{pick.uniform(-1, 1) * 10.0 ** pick.randint(-8, 12):.8g}",
    "text": _word,
    "varchar": _word,
    "timestamp": _stamp,
    "timestamptz": _stamp,
    "interval": _interval,
}


_ODD_NUMBERS = [
    " 5 ",
    "+5",
    "005",
    "-0",
    "5.",
    ".5",
    "5e0",
    "5E+1",
    "0x1F",
    "1_000",
    "nan",
    "inf",
    "-INFINITY",
    "1e400",
    "5 5",
]
_ODD_BOOLS = [
    "true",
    "TRUE",
    " t ",
    "yes",
    "no",
    "on",
    "off",
    "of",
    "o",
    "1",
    "0",
    "tr",
    "fa",
    "y",
    "",
    "truest",
]
_ODD_DATES = [
    *(
        "2024-2-9",
        " 2024-02-29 ",
        "20240229",
        "2024-02-30",
        "2023-02-29",
        "0000-01-01",
        "10000-1-1",
        "2024-02-29 BC",
    ),
    *(
        "99999-01-01",
        "5874898-01-01",
        "4714-11-24 BC",
        "4714-11-23 BC",
        "2024-13-01",
        "1-1-1",
        "INFINITY",
        "Epoch",
    ),
    *("2024-02-29 12:00:00", "2024-02-29T12:00:00", "2024-02-29 ad", "2024-02-29T12:00", "today", "2024.060"),
]
_ODD_TIMES = [
    "1:2",
    "12:60:00",
    "24:00:01",
    "25:00",
    "23:59:60.5",
    "12:00:00.1234567",
    "12:00 PM",
    "120000",
    "12:0:0",
    "-1:00",
]
_ODD_STAMPS = [
    *(
        "2024-02-29 24:00:00",
        "2024-02-29 24:00:01",
        "2024-02-29 23:59:60.999",
        "2024-02-29 1:02",
        "294277-01-01",
    ),
    *(
        "2024-02-29 12:00:00Z",
        "2024-02-29 12:00 utc",
        "2024-02-29 12:00:00+15:59",
        "2024-02-29 12:00:00+16",
        "2024-02-29Z",
    ),
    *(
        "2024-02-29 12:00:00 +0230",
        "2024-02-29 12:00:00-08:00:15",
        "2024-02-29 12:00:00+2",
        "2024-02-29  12:00:00",
    ),
    *(
        "4714-11-24 00:00:00 BC",
        "4714-11-23 23:59:59 BC",
        "294276-12-31 23:59:59.9999995",
        "2024-02-29 12:00:00.1234567",
    ),
    *(
        "2024-02-29 12:00:00+02 BC",
        "2024-02-29 12:00:00.",
        "2024-02-29 12",
        "2024-02-29 12:00:00+1:30",
        "2024-02-29t12:00:00z",
    ),
]
_ODD_INTERVALS = [
    *(" P1D", "P1D\n", " 1 day ", "1day2hours", "1day+2h", "1d2h", "1h+2m", "1d-2h", "1day02:03"),
    *(
        "1",
        "-1",
        "1.5 days",
        "1.5 hours",
        "1 mon 1.5 sec",
        "P",
        "PT",
        "P1",
        "P1.5D",
        "P1W",
        "PT36H",
        "P1Y1",
        "-P1D",
        "1 d 2 h",
    ),
    *(
        "1 day ago",
        "@ 1 day",
        "1 fortnight",
        "1 century",
        "1 decade",
        "1y 2m",
        "1 min",
        "1 mins 2 secs",
        "1 ms",
        "1:2",
        "1:2:3",
    ),
    *(
        "-1:2:3",
        "1 day -1:00",
        "01:60:00",
        "2147483648 days",
        "1 DAY",
        "1day",
        "+1 day",
        "1 day 1 day",
        "9223372036854 sec",
    ),
    *(
        "infinity",
        "PT-1.5S",
        "PT0.0000001S",
        "P-1Y2M",
        "P1Y-2M",
        "1 day 2",
        "999999999 years",
        "0.0000005 sec",
        "1.0000005 s",
    ),
]
_ODD_UUIDS = [
    "{00000000-0000-0000-0000-000000000000}",
    "00000000-00000000-00000000-00000000",
    "0",
    "{00000000000000000000000000000000",
]
_ODD_BYTEA = ["\\x0", "\\xzz", "\\x 00 01", "a\\\\b", "\\1", "\\400", "\\377", "é"]
_ODD_JSON = [
    '{"a":1,"a":2}',
    "[1,]",
    "01",
    "1.",
    '"\\ud800"',
    '"\\u0000"',
    " 1 ",
    "NaN",
    '{"b":1,"aa":2,"a":3}',
    "1E400",
    "[1,2",
    '"\t"',
    "-0",
    "1e-3",
]
_ODD_ARRAYS = [
    "{ 1 , 2 }",
    "{1,2",
    "{1,,2}",
    "{}{}",
    "{{}}",
    "{{1},{1,2}}",
    "[1:1]={1}",
    "[2:1]={}",
    "[-1:0]={1,2}",
    "{null}",
    "{ }",
    "1",
    "{1 2}",
    "{{1},2}",
    '{"1"}',
    "[1]={1}",
    "{1}x",
    "[1:2]={1}",
]
ODD = {
    **dict.fromkeys(("int2", "int4", "int8", "numeric", "float4", "float8", "age"), _ODD_NUMBERS),
    **dict.fromkeys(("_int4", "_text", "_numeric", "_bool"), _ODD_ARRAYS),
    "bool": _ODD_BOOLS,
    "date": _ODD_DATES,
    "time": _ODD_TIMES,
    "timestamp": [*_ODD_STAMPS, *_ODD_DATES],
    "timestamptz": [*_ODD_STAMPS, *_ODD_DATES],
    "interval": _ODD_INTERVALS,
    "uuid": _ODD_UUIDS,
    "bytea": _ODD_BYTEA,
    "jsonb": _ODD_JSON,
    "mood": ["SAD", "", "sad "],
}

SINCE_15 = "2024-02-29 12:00:00."
"""Postgres 14 refuses this literal; a clause with it is taken as newer servers take it."""


def odd_form(pick: random.Random, kind: str, text: str) -> str:
    """A literal in an unusual form, which input functions may refuse."""
    if kind in ODD and pick.random() < 0.8:
        return pick.choice(ODD[kind])
    return pick.choice(
        [f" {text}", f"{text} ", f"\t{text}\n", text.upper(), f"+{text}", f"{text}0", text[:-1]]
    )
