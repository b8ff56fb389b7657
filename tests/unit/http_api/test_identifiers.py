"""Parsing of identifiers, relations and column lists."""

from __future__ import annotations

import re

import pytest

from pgshapes.http_api.params import (
    parse_columns,
    parse_identifier,
    parse_relation,
    split_outside_quotes,
)

EMPTY = "Invalid zero-length delimited identifier"
SPECIAL = "Invalid unquoted identifier contains special characters: "
QUOTE = "Invalid identifier with unescaped quote: "
LONG = "Identifier is too long (max length is 63)"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("items", "items"),
        ("FooBar", "foobar"),
        ('"FooBar"', "FooBar"),
        ('"Foo""Bar"', 'Foo"Bar'),
        ('"a"""', 'a"'),
        ('" "', " "),
        ("_a1", "_a1"),
        ('"ÄÖ"', "ÄÖ"),
        ("a" * 63, "a" * 63),
        ('"' + '""' * 63 + '"', '"' * 63),
    ],
)
def test_a_name_is_read(text: str, name: str) -> None:
    assert parse_identifier(text) == name


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", EMPTY),
        ('""', EMPTY),
        ('"', EMPTY),
        (" ", SPECIAL + " "),
        (" id", SPECIAL + " id"),
        ("foob@r", SPECIAL + "foob@r"),
        ('Foo"Bar"', SPECIAL + 'Foo"Bar"'),
        ("1a", SPECIAL + "1a"),
        ("ä", SPECIAL + "ä"),
        ("a\n", SPECIAL + "a\n"),
        ('"Foo"Bar"', QUOTE + 'Foo"Bar'),
        ("a" * 64, LONG),
        ('"' + "ä" * 32 + '"', LONG),
        ('"a\0b"', "Invalid identifier with a zero byte"),
    ],
)
def test_a_bad_name_is_refused_with_its_reason(text: str, refusal: str) -> None:
    with pytest.raises(ValueError, match=re.escape(refusal) + r"\Z"):
        parse_identifier(text)


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        ("items", ("public", "items")),
        ("Other.Items", ("other", "items")),
        ('"Other"."My.Items"', ("Other", "My.Items")),
        ('"a.b"', ("public", "a.b")),
    ],
)
def test_a_relation_is_read(text: str, relation: tuple[str, str]) -> None:
    assert parse_relation(text) == relation


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (".invalid_shape", EMPTY),
        ("items.", EMPTY),
        ("a.b.c", "Invalid relation identifier, too many delimiters: a.b.c"),
        ("a b", SPECIAL + "a b"),
    ],
)
def test_a_bad_relation_is_refused(text: str, refusal: str) -> None:
    with pytest.raises(ValueError, match=re.escape(refusal) + r"\Z"):
        parse_relation(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id", ("id",)),
        ("id,name", ("id", "name")),
        ('"PoT@To",PoTaTo', ("PoT@To", "potato")),
        ('"PoTaTo,sunday",foo', ("PoTaTo,sunday", "foo")),
        ('"fo""o",bar', ('fo"o', "bar")),
    ],
)
def test_a_column_list_is_read(text: str, names: tuple[str, ...]) -> None:
    assert parse_columns(text) == names


@pytest.mark.parametrize(
    ("text", "refusal"),
    [("foo,", EMPTY), (",", EMPTY), ("id, name", SPECIAL + " name"), ('"id,"name"', SPECIAL + '"id')],
)
def test_a_bad_column_list_is_refused(text: str, refusal: str) -> None:
    with pytest.raises(ValueError, match=re.escape(refusal) + r"\Z"):
        parse_columns(text)


def test_a_long_list_of_quotes_is_split_in_linear_time() -> None:
    text = ",".join(['"a,b"'] * 50_000)
    assert split_outside_quotes(text, ",") == ['"a,b"'] * 50_000
