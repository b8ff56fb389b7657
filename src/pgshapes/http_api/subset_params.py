"""Validates the parameters of a subset snapshot (docs/protocol.md). Pure.

The syntax of `where` and `order_by` is checked later, because that needs the system catalogs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from pgshapes.errors import RequestError
from pgshapes.http_api.params import INVALID, cast_text, cast_texts_by_key
from pgshapes.model.shape import Subset

_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_ORDER_NEEDED: Final = "order_by is required when limit or offset is present"


_USED: Final = ("where", "params", "order_by", "limit", "offset")


def used_of_subset(given: Any) -> Any:
    """The parameters that `parse_subset` uses; other values are returned unchanged, for it to refuse them."""
    return {name: given[name] for name in _USED if name in given} if isinstance(given, dict) else given


def parse_subset(given: Any) -> Subset:
    """The query that the parameters describe. Raises RequestError with its errors under `subset`."""
    if not isinstance(given, dict):
        raise RequestError(errors={"subset": [INVALID]})
    errors: dict[str, list[str]] = {}

    def cast(name: str, rule: Callable[[Any], Any]) -> Any:
        try:
            return rule(given.get(name))
        except ValueError as refusal:
            errors[name] = [str(refusal)]

    subset = Subset(
        where=cast("where", cast_text),
        params=cast("params", _cast_params),
        order_by=cast("order_by", cast_text),
        limit=cast("limit", _cast_limit),
        offset=cast("offset", _cast_offset),
    )
    is_paged = subset.limit is not None or subset.offset is not None
    if is_paged and subset.order_by is None:
        errors.setdefault("order_by", [_ORDER_NEEDED])
    if errors:
        raise RequestError(errors={"subset": errors})
    return subset


def _cast_limit(value: Any) -> int | None:
    limit = _cast_integer(value)
    if limit is not None and limit <= 0:
        raise ValueError("must be greater than 0")
    return limit


def _cast_offset(value: Any) -> int | None:
    offset = _cast_integer(value)
    if offset is not None and offset < 0:
        raise ValueError("must be greater than or equal to 0")
    return offset


def _cast_integer(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = cast_text(value)
    if text is None:
        return None
    if _INTEGER.fullmatch(text) is None:
        raise ValueError(INVALID)
    return int(text)


def _cast_params(value: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str):
        if not value.strip():
            return ()
        value = _parse_json_object(value)
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise ValueError(INVALID)
    return cast_texts_by_key({key: _as_text(item) for key, item in value.items()})


def _parse_json_object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError("params must be valid JSON") from None
    if not isinstance(value, dict):
        raise ValueError("params must be a JSON object")
    return value


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return orjson.dumps(value).decode()
    raise ValueError(INVALID)
