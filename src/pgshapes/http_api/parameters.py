"""Parses the query string and the body of a request into nested parameters. Pure.

In a query string `a=1` is a text, `a[k]=1` an entry of a mapping, `a[]=1` an item of a list. If a name occurs
more than once, or in more than one of these forms, the last one is used. The parameters' meaning is in
`params`; `serve` receives the body.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson

from pgshapes.errors import RequestError

Parameters = dict[str, Any]
"""By name: a text, a list of texts, or a mapping of the same."""

MAX_VALUES: Final = 50_000
"""Values and names in a body; each takes up to 100 bytes. All valid parameters together are fewer."""
_VALUE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[{]|[^\s"\[\]{}:,]++', re.DOTALL)
"""A text, also one without an end, or it would be read again from each quote; the start of a list or a
mapping; or another value.
"""


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


SUBSET_PREFIX: Final = "subset__"
SUBSET_KEYS: Final = frozenset(
    {"where", "order_by", "limit", "offset", "params", "where_expr", "order_by_expr"}
)


class UnreadableBody(RequestError):
    """The body cannot be parsed: 400 or 413, with its own format of the response."""

    code = "unreadable_body"


def parse_body(raw: bytes) -> Parameters:
    """The parameters of a body; none if it is empty. Raises UnreadableBody."""
    if not raw:
        return {}
    if _has_too_many_values(raw):
        raise UnreadableBody(f"Request body has more than {MAX_VALUES} values", status=413)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise UnreadableBody("Invalid JSON in request body") from None
    if not isinstance(body, dict):
        raise UnreadableBody("Request body must be a JSON object")
    return body


def _has_too_many_values(raw: bytes) -> bool:
    """Whether a JSON text has more than `MAX_VALUES` values; they are not kept."""
    if sum(map(raw.count, (b",", b":", b"[", b"{"))) < MAX_VALUES:
        return False  # also those inside of texts
    return next(islice(_VALUE.finditer(raw), MAX_VALUES, None), None) is not None


def gather_subset(query: Parameters) -> Parameters:
    """The parameters of the query, with all `subset__X` combined into one mapping `subset`."""
    if not any(name.startswith(SUBSET_PREFIX) for name in query):
        return query
    gathered = {name: value for name, value in query.items() if not name.startswith(SUBSET_PREFIX)}
    before = gathered.get("subset")
    subset: dict[str, Any] = dict(before) if isinstance(before, dict) else {}
    for name, value in query.items():
        if name.startswith(SUBSET_PREFIX):
            subset[name.removeprefix(SUBSET_PREFIX)] = value
    gathered["subset"] = subset
    return gathered


def merge_parameters(query: Parameters, body: Parameters) -> Parameters:
    """The parameters of a POST: the body overrides the query, subset keys are moved into `subset`."""
    merged = dict(gather_subset(query))
    if isinstance(body.get("subset"), dict):
        plain = {name: value for name, value in body.items() if name != "subset"}
        return merged | plain | {"subset": _subset_of(merged) | body["subset"]}
    subset = {name: value for name, value in body.items() if name in SUBSET_KEYS}
    if not subset:
        return merged | body
    plain = {name: value for name, value in body.items() if name not in SUBSET_KEYS}
    return merged | plain | {"subset": _subset_of(merged) | subset}


def _subset_of(parameters: Parameters) -> dict[str, Any]:
    subset = parameters.get("subset")
    return subset if isinstance(subset, dict) else {}
