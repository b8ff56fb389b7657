"""A query string as a tree of parameters. Pure.

`a=1` is a text, `a[k]=1` an entry of a mapping, `a[]=1` an item of a list; the last of equal names wins, and
a name that is used in two of these ways keeps the last way. Not here: what any parameter means.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

from pgshapes.errors import RequestError

Parameters = dict[str, Any]
"""Text, list of texts, or mapping of the same, by name."""


def parse_query_string(raw: bytes) -> Parameters:
    """The parameters of a query string. Raises RequestError for bytes that are not UTF-8."""
    found: Parameters = {}
    for pair in raw.split(b"&"):
        if not pair:
            continue
        name, _, value = pair.partition(b"=")
        _put(found, _decode(name), _decode(value))
    return found


def _decode(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RequestError.field("query", "is not valid UTF-8") from None


def _put(found: Parameters, name: str, value: str) -> None:
    base, bracket, inner = name[:-1].partition("[")
    if not (base and bracket and name.endswith("]")):
        found[name] = value
    elif not inner:
        _put_item(found, base, value)
    elif "[" in inner or "]" in inner:
        found[base] = {inner: {"": value}}
    else:
        _put_entry(found, base, inner, value)


def _put_item(found: Parameters, base: str, value: str) -> None:
    items = found.get(base)
    found[base] = [*items, value] if isinstance(items, list) else [value]


def _put_entry(found: Parameters, base: str, key: str, value: str) -> None:
    entries = found.get(base)
    if not isinstance(entries, dict):
        entries = found[base] = {}
    entries[key] = value
