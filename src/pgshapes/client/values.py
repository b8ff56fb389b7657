"""Converts the text of a column to a Python value, as described by `electric-schema` (docs/protocol.md).
Pure.

Like the TypeScript client: integers, floats, booleans, JSON, and arrays of them are converted; all other
types (numeric, timestamps, …) stay the text of Postgres.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson

from pgshapes.client.messages import ParseValue, Value
from pgshapes.errors import WireError

Parse = Callable[[str], Any]


def parse_bool(text: str) -> bool:
    """`t` or `true`, `f` or `false`."""
    if text in ("t", "true"):
        return True
    if text in ("f", "false"):
        return False
    raise ValueError(f"not a boolean: {text!r}")


PARSERS: Final[Mapping[str, Parse]] = {
    "int2": int,
    "int4": int,
    "int8": int,
    "float4": float,
    "float8": float,
    "bool": parse_bool,
    # Not orjson, which does not keep integers of more than 64 bits exact.
    "json": json.loads,
    "jsonb": json.loads,
}


def parse_array(text: str, parse: Parse | None) -> list[Any]:
    """A Postgres array literal as nested lists (manual: 8.15.6). Raises ValueError."""
    start = text.find("={") + 1 if text.startswith("[") else 0  # with bounds: [0:1]={…}
    array, end = _array_at(text, start, parse)
    if end != len(text):
        raise ValueError(f"not an array: {text!r}")
    return array


def _array_at(text: str, start: int, parse: Parse | None) -> tuple[list[Any], int]:
    if text[start : start + 1] != "{":
        raise ValueError(f"not an array: {text!r}")
    items: list[Any] = []
    at = start + 1
    while text[at : at + 1] != "}":
        item, at = _item_at(text, at, parse)
        items.append(item)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "}":
            raise ValueError(f"not an array: {text!r}")
    return items, at + 1


def _item_at(text: str, at: int, parse: Parse | None) -> tuple[Any, int]:
    if text[at : at + 1] == "{":
        return _array_at(text, at, parse)
    if text[at : at + 1] == '"':
        word, at = _quoted_at(text, at + 1)
    else:
        end = min(found for found in (text.find(",", at), text.find("}", at), len(text)) if found >= 0)
        word, at = text[at:end], end
        if word.upper() == "NULL":
            return None, at
    return (parse(word) if parse else word), at


def _quoted_at(text: str, at: int) -> tuple[str, int]:
    letters: list[str] = []
    while (letter := text[at : at + 1]) != '"':
        if letter == "\\":
            at += 1
            letter = text[at : at + 1]
        if letter == "":
            raise ValueError(f"not an array: {text!r}")
        letters.append(letter)
        at += 1
    return "".join(letters), at + 1


def value_parser(schema_header: str) -> ParseValue:
    """A function that parses the values of a row. Raises WireError if the header is invalid."""
    try:
        columns = orjson.loads(schema_header) or {}
        parsers = {name: parse for name, column in columns.items() if (parse := _parser(column))}
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise WireError(f"electric-schema cannot be read: {schema_header!r}") from None
    return partial(_parse_value, parsers)


def _parser(column: Mapping[str, Any]) -> Parse | None:
    parse = PARSERS.get(column["type"])
    if column.get("dims"):
        return partial(parse_array, parse=parse)
    return parse


def _parse_value(parsers: Mapping[str, Parse], value: Value) -> Value:
    for name, text in value.items():
        if text is not None and name in parsers:
            value[name] = parsers[name](text)
    return value
