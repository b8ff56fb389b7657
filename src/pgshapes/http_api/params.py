"""Validates parameters and converts them into a typed request. Pure.

Checks that need the system catalogs (whether the table and the columns exist, the clause) are in
`Shapes.resolve`. The checks run in stages: the errors of one stage are returned together, and the later
stages are then skipped. In names of tables and columns, quoted parts are case-sensitive; in unquoted parts
ASCII letters are converted to lower case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from pgshapes.errors import RequestError
from pgshapes.http_api.parameters import Parameters
from pgshapes.model.offset import BEFORE_ALL, Offset, parse_offset
from pgshapes.model.shape import RawShape

MAX_IDENTIFIER_BYTES: Final = 63
"""NAMEDATALEN - 1, with Postgres's default of NAMEDATALEN."""
DEFAULT_SCHEMA: Final = "public"
_LONG_IDENTIFIER: Final = f"Identifier is too long (max length is {MAX_IDENTIFIER_BYTES})"

MAX_COLUMNS: Final = 1664
"""MaxTupleAttributeNumber: Postgres selects no more."""
MAX_TEXT: Final = 65_536
"""Length of any text, as of a clause."""
MAX_COLUMNS_TEXT: Final = 4 * MAX_TEXT
"""Length of a list of columns: as many quoted names as there may be."""
MAX_PARAMS: Final = 10_000
MAX_PARAMS_TEXT: Final = 1_000_000
"""Length of all params together; a clause cannot use more."""

_UNQUOTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_ASCII_LOWER = str.maketrans(_UPPER, _LOWER)


def parse_identifier(text: str) -> str:
    """The name that a quoted or unquoted identifier denotes. Raises ValueError."""
    is_quoted = text.startswith('"') and text.endswith('"')
    name = _unquote(text[1:-1]) if is_quoted else _lower(text)
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise ValueError(_LONG_IDENTIFIER)
    return name


def parse_relation(text: str) -> tuple[str, str]:
    """(schema, name) of `name` or `schema.name`. Raises ValueError."""
    parts = split_outside_quotes(text, ".")
    if len(parts) > 2:
        raise ValueError(f"Invalid relation identifier, too many delimiters: {text}")
    names = [parse_identifier(part) for part in parts]
    return (names[0], names[1]) if len(names) == 2 else (DEFAULT_SCHEMA, names[0])


def parse_columns(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list, in order. Raises ValueError."""
    if len(text) > MAX_COLUMNS_TEXT:
        raise ValueError(_too_long(MAX_COLUMNS_TEXT))
    parts = dict.fromkeys(split_outside_quotes(text, ","))
    _check_number(parts)
    return tuple(dict.fromkeys(parse_identifier(part) for part in parts))


def _check_number(columns: Collection[str]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise ValueError(f"has more than {MAX_COLUMNS} columns")


def _too_long(limit: int) -> str:
    return f"is longer than {limit} characters"


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


INVALID: Final = "is invalid"
_BLANK: Final = "can't be blank"


class Now(Enum):
    """The offset `now`: the current end of the log."""

    NOW = "now"


@dataclass(frozen=True, slots=True)
class ShapeRequest:
    """A validated request for GET or POST `/v1/shape`."""

    raw: RawShape
    offset: Offset | Now
    handle: str | None
    """None for the offsets `-1` and `now`: the parameter is then ignored."""
    is_live: bool
    is_sse: bool
    cursor: str | None
    subset: Any
    """None, or the unchecked parameters of a subset; `parse_subset` checks them after the shape."""


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """A validated request for DELETE `/v1/shape`; at least one of the fields is not None."""

    raw: RawShape | None
    handle: str | None


@dataclass(frozen=True, slots=True)
class _Typed:
    """The parameters after stage 1."""

    table: str | None
    offset: str | None
    handle: str | None
    is_live: bool
    is_sse: bool
    where: str | None
    params: tuple[tuple[str, str], ...]
    columns: tuple[str, ...] | None
    queryable_columns: tuple[str, ...] | None
    replica: str
    log: str


def parse_shape_request(given: Parameters) -> ShapeRequest:
    """The typed request for GET or POST. Raises RequestError."""
    typed = _cast_all(given)
    offset = _parse_offset(typed.offset)
    has_place = offset not in (BEFORE_ALL, Now.NOW)
    if has_place and typed.handle is None:
        raise RequestError.field("handle", "can't be blank when offset != -1")
    _check_live(typed, offset)
    cursor = given.get("cursor")
    return ShapeRequest(
        raw=_raw_shape(typed),
        offset=offset,
        handle=typed.handle if has_place else None,
        is_live=typed.is_live,
        is_sse=typed.is_sse,
        cursor=cursor if isinstance(cursor, str) else None,
        subset=given.get("subset"),
    )


def parse_delete_request(given: Parameters) -> DeleteRequest:
    """The typed request for DELETE. Raises RequestError."""
    typed = _cast_all(given)
    if typed.table is not None:
        return DeleteRequest(_raw_shape(typed), typed.handle)
    if typed.handle is None:
        raise RequestError.field("handle", "can't be blank when shape definition is missing")
    return DeleteRequest(None, typed.handle)


def _parse_offset(text: str | None) -> Offset | Now:
    if text is None:
        raise RequestError.field("offset", _BLANK)
    if text == Now.NOW.value:
        return Now.NOW
    try:
        return parse_offset(text)
    except ValueError:
        raise RequestError.field("offset", "has invalid format") from None


def _check_live(typed: _Typed, offset: Offset | Now) -> None:
    if typed.is_live and offset == BEFORE_ALL:
        raise RequestError.field("live", "can't be true when offset == -1")
    if typed.is_live and offset is Now.NOW:
        raise RequestError.field("live", "can't be true when offset is 'now'")
    if typed.is_sse and not typed.is_live:
        raise RequestError.field("live_sse", "can't be true unless live is also true")


def _raw_shape(typed: _Typed) -> RawShape:
    if typed.table is None:
        raise RequestError.field("table", _BLANK)
    try:
        schema, table = parse_relation(typed.table)
    except ValueError as refusal:
        raise RequestError.field("table", str(refusal)) from None
    return RawShape(
        schema=schema,
        table=table,
        where=typed.where,
        params=typed.params if typed.where is not None else (),
        columns=typed.columns,
        queryable_columns=typed.queryable_columns,
        replica=typed.replica,
        log=typed.log,
    )


def _cast_all(given: Parameters) -> _Typed:
    errors: dict[str, list[str]] = {}

    def cast(name: str, rule: Callable[[Any], Any]) -> Any:
        try:
            return rule(given.get(name))
        except ValueError as refusal:
            errors[name] = [str(refusal)]

    sse_name = "live_sse" if "live_sse" in given else "experimental_live_sse"
    cast("experimental_compaction", cast_boolean)
    typed = _Typed(
        table=cast("table", cast_text),
        offset=cast("offset", cast_text),
        handle=cast("handle", cast_text),
        is_live="live" in given and given["live"] != "false",
        is_sse=sse_name in given and given[sse_name] != "false",
        where=cast("where", cast_text),
        params=cast("params", cast_texts_by_key),
        columns=cast("columns", _cast_columns),
        queryable_columns=cast("queryable_columns", _cast_columns),
        replica=cast("replica", _one_of("default", "full")),
        log=cast("log", _one_of("full", "changes_only")),
    )
    if errors:
        raise RequestError(errors=errors)
    return typed


def cast_text(value: Any, limit: int = MAX_TEXT) -> str | None:
    """The text; None if it is blank. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(INVALID)
    if len(value) > limit:
        raise ValueError(_too_long(limit))
    return value if value.strip() else None


def cast_boolean(value: Any) -> bool:
    """The value of `true`, `false`, `1` or `0`; False if it is blank. Raises ValueError."""
    if isinstance(value, bool):
        return value
    text = cast_text(value)
    if text in (None, "false", "0"):
        return False
    if text in ("true", "1"):
        return True
    raise ValueError(INVALID)


def cast_texts_by_key(value: Any) -> tuple[tuple[str, str], ...]:
    """The entries of a mapping of texts, sorted by key. Raises ValueError."""
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise ValueError(INVALID)
    if any(not isinstance(text, str) or "\0" in text or "\0" in key for key, text in value.items()):
        raise ValueError(INVALID)
    if len(value) > MAX_PARAMS:
        raise ValueError(f"has more than {MAX_PARAMS} entries")
    if sum(len(key) + len(text) for key, text in value.items()) > MAX_PARAMS_TEXT:
        raise ValueError(_too_long(MAX_PARAMS_TEXT))
    return tuple(sorted(value.items()))


def _cast_columns(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, list):
        return _cast_column_list(value)
    text = cast_text(value, MAX_COLUMNS_TEXT)
    return None if text is None else parse_columns(text)


def _cast_column_list(names: list[Any]) -> tuple[str, ...]:
    try:
        different = dict.fromkeys(names)
    except TypeError:
        raise ValueError(INVALID) from None
    _check_number(different)
    if not names or any(not isinstance(name, str) or "\0" in name for name in different):
        raise ValueError(INVALID)
    if "" in different:
        raise ValueError("Invalid zero-length delimited identifier")
    if any(len(name.encode()) > MAX_IDENTIFIER_BYTES for name in different):
        raise ValueError(_LONG_IDENTIFIER)
    return tuple(different)


def _one_of(default: str, other: str) -> Callable[[Any], str]:
    def cast(value: Any) -> str:
        text = cast_text(value) or default
        if text not in (default, other):
            raise ValueError(INVALID)
        return text

    return cast
