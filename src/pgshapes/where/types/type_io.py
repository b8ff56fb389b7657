"""Which types a clause can compute with, and how their values go from text to Python and back.

A type that is not listed may stand in `IS NULL` only. Immutable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from pgshapes.where import pg_catalog
from pgshapes.where.pg_catalog import PgType
from pgshapes.where.types import arrays, documents, intervals, numbers, strings, times


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
    pg_catalog.BOOL: TypeIO(strings.decode_bool, strings.read_bool, strings.write_bool, True),
    pg_catalog.BYTEA: TypeIO(strings.read_text, strings.read_bytea, strings.read_text, True),
    pg_catalog.NAME: TypeIO(strings.read_text, strings.read_name, strings.read_text, True),
    pg_catalog.INT2: _integer(2),
    pg_catalog.INT4: _integer(4),
    pg_catalog.INT8: _integer(8),
    pg_catalog.TEXT: _TEXT,
    pg_catalog.VARCHAR: _TEXT,
    pg_catalog.BPCHAR: _TEXT._replace(is_canonical=False),
    pg_catalog.FLOAT4: TypeIO(numbers.decode_float4, numbers.read_float4, numbers.write_float, False),
    pg_catalog.FLOAT8: TypeIO(numbers.decode_float8, numbers.read_float8, numbers.write_float, False),
    pg_catalog.NUMERIC: TypeIO(numbers.decode_numeric, numbers.read_numeric, numbers.write_numeric, False),
    pg_catalog.DATE: TypeIO(times.decode_date, times.read_date, times.write_date, True),
    pg_catalog.TIME: TypeIO(times.read_time, times.read_time, times.write_time, True),
    pg_catalog.TIMESTAMP: TypeIO(times.decode_timestamp, times.read_timestamp, times.write_timestamp, True),
    pg_catalog.TIMESTAMPTZ: TypeIO(
        times.decode_timestamp, times.read_timestamptz, times.write_timestamptz, True
    ),
    pg_catalog.INTERVAL: TypeIO(
        intervals.read_interval, intervals.read_interval, intervals.write_interval, False
    ),
    pg_catalog.JSONB: TypeIO(
        documents.decode_document, documents.read_document, documents.write_document, False
    ),
    pg_catalog.UUID: TypeIO(strings.read_text, strings.read_uuid, strings.read_text, True),
}


_NO_ARRAYS: Final = frozenset({pg_catalog.BPCHAR, pg_catalog.JSONB})
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
