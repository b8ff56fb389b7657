"""The text of keys, and quoting of names."""

from __future__ import annotations

import pytest

from pgshapes.model.key import json_text, key_prefix, row_key
from pgshapes.model.quoting import display_name, qualified_name, quote_identifier, quote_literal


@pytest.mark.parametrize(
    ("schema", "table", "values", "key"),
    [
        ("public", "items", ["1"], '"public"."items"/"1"'),
        ("public", "items", ["a/b", "c"], '"public"."items"/"a//b"/"c"'),
        ("public", "items", [None, "", "_"], '"public"."items"/_/""/"_"'),
        ("public", "items", ['say "x"'], '"public"."items"/"say "x""'),
        ('we"ird', "a.b/c", ["1"], '"we""ird"."a.b/c"/"1"'),
        ("public", "nothing", [], '"public"."nothing"'),
    ],
)
def test_key(schema: str, table: str, values: list[str | None], key: str) -> None:
    assert row_key(key_prefix(schema, table), values) == key


def test_json_escapes_are_postgres_s() -> None:
    assert json_text('\b\f\n\r\t\x01\x1f"\\/\x7f\u2028é😀').decode() == (
        '"\\b\\f\\n\\r\\t\\u0001\\u001f\\"\\\\/\x7f\u2028é😀"'
    )


def test_names_and_texts_as_sql() -> None:
    assert qualified_name("public", 'a"b') == '"public"."a""b"'
    assert quote_literal("it's") == "'it''s'"
    assert quote_literal("a\\b'") == "E'a\\\\b'''"
    assert display_name("public", "My Table") == 'public."My Table"'


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_no_identifier_can_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an identifier"):
        quote_identifier(name)
