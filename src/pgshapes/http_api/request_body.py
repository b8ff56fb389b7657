"""Parameters out of a POST body, and how they meet those of the query string (http-api §2.3). Pure.

Not here: reading the body off the connection.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from pgshapes.errors import RequestError
from pgshapes.http_api.query_string import Parameters

SUBSET_PREFIX: Final = "subset__"
SUBSET_KEYS: Final = frozenset(
    {"where", "order_by", "limit", "offset", "params", "where_expr", "order_by_expr"}
)


class UnreadableBody(RequestError):
    """A body that cannot be taken for parameters: 400 or 413, with its own form of answer."""

    code = "unreadable_body"


def parse_body(raw: bytes) -> Parameters:
    """The parameters of a body; an empty one has none. Raises UnreadableBody."""
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise UnreadableBody("Invalid JSON in request body") from None
    if not isinstance(body, dict):
        raise UnreadableBody("Request body must be a JSON object")
    return body


def gather_subset(query: Parameters) -> Parameters:
    """The query's parameters with all `subset__X` put together as `subset`."""
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
    """The parameters of a POST: the body's over the query's, subset keys under `subset`."""
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
