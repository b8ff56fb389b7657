"""Which types a clause can compute with, and how their values go from text to Python and back.

A type that is not listed may stand in `IS NULL` only. Immutable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from pgshapes.where import catalogue
from pgshapes.where.catalogue import PgType
from pgshapes.where.values import arrays, documents, intervals, numbers, strings, times


class TypeIO(NamedTuple):
    """A type's conversions. `read` raises BadLiteral; `decode` is only given what the server wrote."""

    decode: Callable[[str], Any]
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    is_canonical: bool
    """Whether equal values have equal text, so that `=` can compare the text itself."""


def _integer(size: int) -> TypeIO:
    return TypeIO(int, partial(numbers.read_integer, size=size), str, True)


_TEXT: Final = TypeIO(strings.read_text, strings.read_text, strings.read_text, True)

SCALARS: Final[dict[int, TypeIO]] = {
    catalogue.BOOL: TypeIO(strings.decode_bool, strings.read_bool, strings.write_bool, True),
    catalogue.BYTEA: TypeIO(strings.read_text, strings.read_bytea, strings.read_text, True),
    catalogue.NAME: TypeIO(strings.read_text, strings.read_name, strings.read_text, True),
    catalogue.INT2: _integer(2),
    catalogue.INT4: _integer(4),
    catalogue.INT8: _integer(8),
    catalogue.TEXT: _TEXT,
    catalogue.VARCHAR: _TEXT,
    catalogue.BPCHAR: _TEXT._replace(is_canonical=False),
    catalogue.FLOAT4: TypeIO(numbers.decode_float4, numbers.read_float4, numbers.write_float, False),
    catalogue.FLOAT8: TypeIO(numbers.decode_float8, numbers.read_float8, numbers.write_float, False),
    catalogue.NUMERIC: TypeIO(numbers.decode_numeric, numbers.read_numeric, numbers.write_numeric, False),
    catalogue.DATE: TypeIO(times.decode_date, times.read_date, times.write_date, True),
    catalogue.TIME: TypeIO(times.read_time, times.read_time, times.write_time, True),
    catalogue.TIMESTAMP: TypeIO(times.decode_timestamp, times.read_timestamp, times.write_timestamp, True),
    catalogue.TIMESTAMPTZ: TypeIO(
        times.decode_timestamp, times.read_timestamptz, times.write_timestamptz, True
    ),
    catalogue.INTERVAL: TypeIO(
        intervals.read_interval, intervals.read_interval, intervals.write_interval, False
    ),
    catalogue.JSONB: TypeIO(
        documents.decode_document, documents.read_document, documents.write_document, False
    ),
    catalogue.UUID: TypeIO(strings.read_text, strings.read_uuid, strings.read_text, True),
}


_NO_ARRAYS: Final = frozenset({catalogue.BPCHAR, catalogue.JSONB})
"""Types whose items do not compare as their Python values do, or cannot be hashed."""


def type_io(of: PgType) -> TypeIO | None:
    """The conversions of a type, None if a clause cannot compute with it."""
    if of.element is not None:
        element = None if of.element.oid in _NO_ARRAYS else type_io(of.element)
        return None if element is None else _array_io(element)
    return _TEXT if of.kind == "e" else SCALARS.get(of.oid)


def _array_io(element: TypeIO) -> TypeIO:
    return TypeIO(
        partial(arrays.decode_array, decode=element.decode),
        partial(arrays.read_array, decode=element.read),
        partial(arrays.write_array, write=element.write),
        False,
    )
