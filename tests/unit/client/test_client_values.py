"""Converting the text of Postgres to Python values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgshapes.client.messages import decode_messages
from pgshapes.client.values import parse_array, value_parser
from pgshapes.errors import WireError


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ({"type": "int2"}, "-3", -3),
        ({"type": "int8"}, "9223372036854775807", 2**63 - 1),
        ({"type": "float8"}, "1.5e300", 1.5e300),
        ({"type": "float8"}, "Infinity", float("inf")),
        ({"type": "bool"}, "t", True),
        ({"type": "bool"}, "false", False),
        ({"type": "jsonb"}, '{"a": [1, 18446744073709551617]}', {"a": [1, 2**64 + 1]}),
        ({"type": "json"}, "null", None),
        ({"type": "numeric", "precision": 5, "scale": 2}, "1.50", "1.50"),
        ({"type": "timestamptz"}, "2024-01-31 12:00:00+00", "2024-01-31 12:00:00+00"),
        ({"type": "text"}, "1", "1"),
        ({"type": "int4", "dims": 1}, "{1,NULL,3}", [1, None, 3]),
        ({"type": "text", "dims": 1}, '{a,"b,}\\"\\\\",""}', ["a", 'b,}"\\', ""]),
        ({"type": "bool", "dims": 2}, "{{t,f},{f,t}}", [[True, False], [False, True]]),
        ({"type": "jsonb", "dims": 1}, '{"{\\"a\\": 1}"}', [{"a": 1}]),
        ({"type": "int4", "dims": 1}, "{}", []),
        ({"type": "int4", "dims": 1}, "[0:1]={7,8}", [7, 8]),
    ],
)
def test_values(column: dict[str, Any], text: str, value: Any) -> None:
    parse = value_parser(json.dumps({"c": column}))
    assert parse({"c": text, "other": "x"}) == {"c": value, "other": "x"}


def test_null_is_none() -> None:
    assert value_parser('{"c":{"type":"int4"}}')({"c": None}) == {"c": None}


def test_a_quoted_null_is_a_word() -> None:
    assert parse_array('{"NULL",null}', None) == ["NULL", None]


@pytest.mark.parametrize("text", ["", "{", "{1", "{1}x", "1}", '{"a', '{"a\\', "{1,2"])
def test_invalid_arrays(text: str) -> None:
    with pytest.raises(ValueError, match="not an array"):
        parse_array(text, None)


@pytest.mark.parametrize("header", ["", "[]1", '{"c": 1}', '{"c": {}}'])
def test_invalid_schemas(header: str) -> None:
    with pytest.raises(WireError):
        value_parser(header)


def test_a_vanished_table_has_no_schema() -> None:
    assert value_parser("null")({"c": "1"}) == {"c": "1"}


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[",
        b"[1]",
        b'[{"headers":{}}]',
        b'[{"headers":{"operation":"upsert"},"key":"k","value":{}}]',
        b'[{"headers":{"operation":"insert"},"value":{}}]',
        b'[{"headers":{"operation":"insert"},"key":"k","value":{"c":"x"}}]',
    ],
)
def test_bodies_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_messages(body, value_parser('{"c":{"type":"int4"}}'))


def test_an_empty_body_has_no_messages() -> None:
    assert decode_messages(b"", None) == []


def test_events_are_control_messages() -> None:
    (message,) = decode_messages(b'[{"headers":{"event":"move-out","patterns":[]}}]', None)
    assert message == ("move-out", {"event": "move-out", "patterns": []})


def test_the_old_value_is_parsed_too() -> None:
    body = b'[{"headers":{"operation":"update"},"key":"k","value":{"c":"2"},"old_value":{"c":"1"}}]'
    (message,) = decode_messages(body, value_parser('{"c":{"type":"int4"}}'))
    assert message[2:4] == ({"c": 2}, {"c": 1})
