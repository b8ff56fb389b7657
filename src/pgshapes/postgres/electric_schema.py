"""The value of the header `electric-schema` (docs/protocol.md). Pure.

Invariant: ASCII only, because it is sent in a header. Type modifiers are decoded as Postgres encodes them
(src/backend/utils/adt: `timestamp.c` for intervals, `numeric.c` for numeric).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Final

from pgshapes.model.relation import Column, Relation

Attributes = dict[str, int | str | bool]

_INTERVAL_FULL_RANGE: Final = 0x7FFF
_INTERVAL_FULL_PRECISION: Final = 0xFFFF
_INTERVAL_FIELDS: Final = (
    (1 << 2, "YEAR"),
    (1 << 1, "MONTH"),
    (1 << 3, "DAY"),
    (1 << 10, "HOUR"),
    (1 << 11, "MINUTE"),
    (1 << 12, "SECOND"),
)
_HEADER_BYTES: Final = 4
"""VARHDRSZ: the modifiers of variable-length types include the length word."""


def schema_header(relation: Relation, columns: Iterable[str]) -> bytes:
    """A JSON object with one entry per selected column, in the given order."""
    entries = {name: describe_column(relation.columns[relation.column_index[name]]) for name in columns}
    return json.dumps(entries, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def describe_column(column: Column) -> Attributes:
    """The attributes with which a client parses the column's values."""
    is_declared_array = column.element_type_name is not None and column.dims > 0
    type_name = column.element_type_name if is_declared_array else column.type_name
    described: Attributes = {"type": str(type_name)}
    if is_declared_array:
        described["dims"] = column.dims
    if column.pk_index is not None:
        described["pk_index"] = column.pk_index
    if column.not_null:
        described["not_null"] = True
    described |= _MODIFIERS.get(str(type_name), _any_modifier)(column.typmod)
    return described


def _any_modifier(typmod: int) -> Attributes:
    return {"type_mod": typmod} if typmod >= 0 else {}


def _max_length(typmod: int) -> Attributes:
    return {"max_length": typmod - _HEADER_BYTES} if typmod >= 0 else {}


def _length(typmod: int) -> Attributes:
    return {"length": typmod - _HEADER_BYTES} if typmod >= 0 else {}


def _bit_length(typmod: int) -> Attributes:
    return {"length": typmod}


def _time_precision(typmod: int) -> Attributes:
    return {"precision": typmod} if typmod > 0 else _any_modifier(typmod)


def _numeric(typmod: int) -> Attributes:
    if typmod < 0:
        return {}
    packed = typmod - _HEADER_BYTES
    return {"precision": (packed >> 16) & 0xFFFF, "scale": ((packed & 0x7FF) ^ 0x400) - 0x400}


def _interval(typmod: int) -> Attributes:
    if typmod < 0:
        return {}
    fields, precision = (typmod >> 16) & _INTERVAL_FULL_RANGE, typmod & _INTERVAL_FULL_PRECISION
    described: Attributes = {}
    if fields != _INTERVAL_FULL_RANGE:
        names = [name for bit, name in _INTERVAL_FIELDS if fields & bit]
        described["fields"] = names[0] if len(names) == 1 else f"{names[0]} TO {names[-1]}"
    if precision != _INTERVAL_FULL_PRECISION:
        described["precision"] = precision
    return described


_MODIFIERS: Final[dict[str, Callable[[int], Attributes]]] = {
    "varchar": _max_length,
    "text": _max_length,
    "bpchar": _length,
    "bit": _bit_length,
    "varbit": _bit_length,
    "numeric": _numeric,
    "interval": _interval,
    **dict.fromkeys(("time", "timetz", "timestamp", "timestamptz"), _time_precision),
}
