"""jsonb: its values, text and operators (manual: JSON Types; JSON Functions and Operators).

A `Document` is a tag and content, so that `1` and `true` differ and equal documents are equal in Python.
Numbers are numeric with their scale. Objects have each key once, shorter keys first, as Postgres stores
them. Postgres stores a scalar as an array of one item; some operators depend on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pgshapes.where.types.arrays import Array
from pgshapes.where.types.large_values import decoded, derived
from pgshapes.where.types.numerics import read_numeric, write_numeric
from pgshapes.where.types.operation import BadLiteral, TooExpensive, TypeIO, calls, inline

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MAX_LITERAL: Final = 100_000


class Document(NamedTuple):
    """A JSON value. `kind` is null, bool, number, string, array or object; an object's content is a dict."""

    kind: str
    content: Any


NULL: Final = Document("null", None)


def decode_document(text: str) -> Document:
    """A jsonb from the server's text. Raises RecursionError for one nested hundreds of levels deep."""
    return decoded(_decode, text)


def _decode(text: str) -> Document:
    return _document(json.loads(text, parse_int=Decimal, parse_float=Decimal))


def read_document(text: str) -> Document:
    """A jsonb from a client's text. Raises BadLiteral."""
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
    """The document with its keys in Postgres's order. Raises BadLiteral for text that jsonb cannot store."""
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
    """The text that `jsonb_out` writes."""
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


_INDEX: Final = re.compile(r"\s*[+-]?[0-9]{1,10}\s*", re.ASCII)


def field(document: Document, key: str) -> Document | None:
    """`document -> 'key'`."""
    found: Document | None = document.content.get(key) if document.kind == "object" else None
    return found


def element(document: Document, index: int) -> Document | None:
    """`document -> index`; a negative index counts from the end."""
    if document.kind == "object":
        return None
    items = document.content if document.kind == "array" else (document,)
    return items[index] if -len(items) <= index < len(items) else None


def as_text(document: Document | None) -> str | None:
    """The result of `->>` from that of `->`: a string without quotes, NULL for JSON null."""
    if document is None or document.kind == "null":
        return None
    return document.content if document.kind == "string" else write_document(document)


def at_path(document: Document, path: Array) -> Document | None:
    """`document #> path`; an empty path is the document itself."""
    if None in path.items:
        return None
    found: Document | None = document
    for step in path.items:
        if found is None or found.kind not in ("object", "array"):
            return None
        found = field(found, step) if found.kind == "object" else _at_step(found, step)
    return found


def _at_step(document: Document, step: str) -> Document | None:
    return element(document, int(step)) if _INDEX.fullmatch(step) and abs(int(step)) < 2**31 else None


_CONTAINERS: Final = frozenset({"array", "object"})
_FEW: Final = 4
"""As many items are looked for one by one faster than all items of an array are collected."""
_MAX_PAIRS: Final = 10_000_000
"""Arrays and objects that are compared in `@>`, each item of one array with each of the other; 2 s."""


def contains(left: Document, right: Document) -> bool:
    """`left @> right`; an array also contains a scalar that is one of its elements. Raises TooExpensive."""
    if left.kind == "array" and right.kind not in _CONTAINERS:
        return right in left.content
    return _Containment().holds(left, right)


class _Containment:
    """One evaluation of `@>`."""

    def __init__(self) -> None:
        self._pairs = 0

    def holds(self, left: Document, right: Document) -> bool:
        """Whether all of `right` is in `left`."""
        if left.kind != right.kind:
            return False
        if left.kind == "object":
            fields = left.content
            return all(
                key in fields and self.holds(fields[key], value) for key, value in right.content.items()
            )
        if left.kind == "array":
            return self._array_holds(left.content, right.content)
        return left == right

    def _array_holds(self, items: tuple[Document, ...], wanted: tuple[Document, ...]) -> bool:
        scalars = [document for document in wanted if document.kind not in _CONTAINERS]
        found = items if len(scalars) <= _FEW else derived(_scalars, items)
        if not all(scalar in found for scalar in scalars):
            return False
        if len(scalars) == len(wanted):
            return True
        containers = derived(_containers, items)
        return all(
            any(self._pair(item, one) for item in containers) for one in wanted if one.kind in _CONTAINERS
        )

    def _pair(self, left: Document, right: Document) -> bool:
        self._pairs += 1
        if self._pairs > _MAX_PAIRS:
            raise TooExpensive(f"containment of json that compares more than {_MAX_PAIRS:,} pairs")
        return self.holds(left, right)


def _scalars(items: tuple[Document, ...]) -> frozenset[Document]:
    return frozenset(item for item in items if item.kind not in _CONTAINERS)


def _containers(items: tuple[Document, ...]) -> tuple[Document, ...]:
    return tuple(item for item in items if item.kind in _CONTAINERS)


def has_key(document: Document, key: str) -> bool:
    """`document ? 'key'`: a key, a string element, or the string itself."""
    return key in _keys(document)


def has_any_key(document: Document, keys: Array) -> bool:
    """`document ?| keys`."""
    return not _keys(document).keys().isdisjoint(key for key in keys.items if key is not None)


def has_all_keys(document: Document, keys: Array) -> bool:
    """`document ?& keys`."""
    found = _keys(document)
    return all(key in found for key in keys.items if key is not None)


def _keys(document: Document) -> Mapping[str, object]:
    if document.kind == "object":
        fields: Mapping[str, object] = document.content
        return fields
    return derived(_strings, document.content if document.kind == "array" else (document,))


def _strings(items: tuple[Document, ...]) -> dict[str, None]:
    return dict.fromkeys(item.content for item in items if item.kind == "string")


TYPES: Final = {"jsonb": TypeIO(decode_document, read_document, write_document, is_canonical=False)}
OPERATIONS: Final = {
    "jsonb = jsonb": inline("{0} == {1}"),
    "jsonb <> jsonb": inline("{0} != {1}"),
    "jsonb -> text": calls(field),
    "jsonb -> int4": calls(element),
    "jsonb ->> text": calls(lambda document, key: as_text(field(document, key))),
    "jsonb ->> int4": calls(lambda document, index: as_text(element(document, index))),
    "jsonb #> text[]": calls(at_path),
    "jsonb #>> text[]": calls(lambda document, path: as_text(at_path(document, path))),
    "jsonb @> jsonb": calls(contains),
    "jsonb <@ jsonb": calls(lambda document, other: contains(other, document)),
    "jsonb ? text": calls(has_key),
    "jsonb ?| text[]": calls(has_any_key),
    "jsonb ?& text[]": calls(has_all_keys),
}
