"""Names of tables and columns as clients write them (http-api §3.1). Pure.

Quoted parts keep their letters, unquoted parts are lower-cased, ASCII letters only. Every refusal is a
ValueError whose text goes to the client.
"""

from __future__ import annotations

import re
from typing import Final

MAX_IDENTIFIER_BYTES: Final = 63
"""NAMEDATALEN - 1: no longer name exists in a server that was built in the ordinary way."""
DEFAULT_SCHEMA: Final = "public"

_UNQUOTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_ASCII_LOWER = str.maketrans(_UPPER, _LOWER)


def parse_identifier(text: str) -> str:
    """The name that one part stands for. Raises ValueError."""
    is_quoted = text.startswith('"') and text.endswith('"')
    name = _unquote(text[1:-1]) if is_quoted else _lower(text)
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise ValueError(f"Identifier is too long (max length is {MAX_IDENTIFIER_BYTES})")
    return name


def parse_relation(text: str) -> tuple[str, str]:
    """(schema, name) of `name` or `schema.name`. Raises ValueError."""
    parts = split_outside_quotes(text, ".")
    if len(parts) > 2:
        raise ValueError(f"Invalid relation identifier, too many delimiters: {text}")
    names = [parse_identifier(part) for part in parts]
    return (names[0], names[1]) if len(names) == 2 else (DEFAULT_SCHEMA, names[0])


def parse_columns(text: str) -> tuple[str, ...]:
    """The names of a comma list, in the order written. Raises ValueError."""
    return tuple(parse_identifier(part) for part in split_outside_quotes(text, ","))


def split_outside_quotes(text: str, delimiter: str) -> list[str]:
    """The pieces of `text` between delimiters that have an even number of quotes after them."""
    if '"' not in text:
        return text.split(delimiter)
    pieces: list[str] = []
    is_outside, end = True, len(text)
    for index in range(len(text) - 1, -1, -1):
        if text[index] == '"':
            is_outside = not is_outside
        elif text[index] == delimiter and is_outside:
            pieces.append(text[index + 1 : end])
            end = index
    pieces.append(text[:end])
    return pieces[::-1]


def _unquote(inner: str) -> str:
    if not inner:
        raise ValueError("Invalid zero-length delimited identifier")
    if '"' in inner.replace('""', ""):
        raise ValueError(f"Invalid identifier with unescaped quote: {inner}")
    if "\0" in inner:
        raise ValueError("Invalid identifier with a zero byte")
    return inner.replace('""', '"')


def _lower(text: str) -> str:
    if not text:
        raise ValueError("Invalid zero-length delimited identifier")
    if _UNQUOTED.fullmatch(text) is None:
        raise ValueError(f"Invalid unquoted identifier contains special characters: {text}")
    return text.translate(_ASCII_LOWER)
