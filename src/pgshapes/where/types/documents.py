"""jsonb values: what they are made of, their text, and reading them (manual: JSON Types).

A document is a `Document`: a tag and content, so that `1` and `true` differ and equal documents are equal
in Python. Numbers are numeric with their scale; objects have each key once, the shorter key first, as
Postgres stores them.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pgshapes.where.types.numbers import read_numeric, write_numeric
from pgshapes.where.types.operation import BadLiteral

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MAX_LITERAL: Final = 100_000


class Document(NamedTuple):
    """A JSON value. `kind` is null, bool, number, string, array or object; an object's content is a dict."""

    kind: str
    content: Any


NULL: Final = Document("null", None)


def decode_document(text: str) -> Document:
    """A jsonb as the server writes it. Raises RecursionError for one nested hundreds of levels deep."""
    return _document(json.loads(text, parse_int=Decimal, parse_float=Decimal))


def read_document(text: str) -> Document:
    """A jsonb from a user's text. Raises BadLiteral."""
    if len(text) > _MAX_LITERAL:
        raise BadLiteral("json literal is too long")
    try:
        raw = json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_refuse)
        return _checked(_document(raw))
    except (ValueError, RecursionError):
        raise BadLiteral from None


def _number(text: str) -> Decimal:
    value = read_numeric(text)
    assert isinstance(value, Decimal)
    return value


def _refuse(word: str) -> None:
    raise ValueError(word)


def _document(raw: Any) -> Document:
    if isinstance(raw, dict):
        return Document("object", {key: _document(value) for key, value in raw.items()})
    if isinstance(raw, list):
        return Document("array", tuple(map(_document, raw)))
    if isinstance(raw, str):
        return Document("string", raw)
    if raw is None:
        return NULL
    return Document("bool", raw) if isinstance(raw, bool) else Document("number", raw)


def _checked(document: Document) -> Document:
    """The document with its keys in Postgres's order. Raises BadLiteral for text that jsonb cannot hold."""
    kind, content = document
    if kind == "string":
        _check_text(content)
    if kind == "array":
        return Document(kind, tuple(map(_checked, content)))
    if kind == "object":
        for key in content:
            _check_text(key)
        keys = sorted(content, key=lambda key: (len(key.encode()), key.encode()))
        return Document(kind, {key: _checked(content[key]) for key in keys})
    return document


def _check_text(text: str) -> None:
    if "\0" in text or _LONE_SURROGATE.search(text):
        raise BadLiteral("unsupported Unicode escape sequence")


def write_document(document: Document) -> str:
    """As `jsonb_out` writes it."""
    kind, content = document
    if kind == "object":
        pairs = (f"{_quote(key)}: {write_document(value)}" for key, value in content.items())
        return "{" + ", ".join(pairs) + "}"
    if kind == "array":
        return "[" + ", ".join(map(write_document, content)) + "]"
    if kind == "string":
        return _quote(content)
    if kind == "number":
        return write_numeric(content)
    return "null" if kind == "null" else "true" if content else "false"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
