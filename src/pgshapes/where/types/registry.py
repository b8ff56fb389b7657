"""All types that a clause can compute with, and all operations by signature. Immutable.

A column of any other type may be used in `IS NULL` only. A declared signature that `pg_catalog` does not
have is an error at import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pgshapes.where.pg_catalog import BPCHAR, JSONB, SIGNATURES, TYPES_BY_NAME, PgType
from pgshapes.where.types import (
    arrays,
    binary,
    booleans,
    dates,
    documents,
    floats,
    integers,
    intervals,
    numerics,
    patterns,
    texts,
    timestamps,
)
from pgshapes.where.types.operation import Operation, TypeIO

_MODULES: Final = (
    *(booleans, integers, numerics, floats, texts, patterns, binary),
    *(dates, timestamps, intervals, arrays, documents),
)
_NO_ARRAYS: Final = frozenset({BPCHAR, JSONB})
"""Types whose arrays are not supported: their values are not compared as Python compares them, or have no
hash.
"""

_SCALARS: Final[dict[int, TypeIO]] = {
    TYPES_BY_NAME[name].oid: io for module in _MODULES for name, io in getattr(module, "TYPES", {}).items()
}
_ENUM: Final = texts.TYPES["text"]


def type_io(of: PgType) -> TypeIO | None:
    """The conversions of a type, None if clauses cannot compute with it."""
    if of.element is not None:
        element = None if of.element.oid in _NO_ARRAYS else type_io(of.element)
        return None if element is None else arrays.array_io(element)
    return _ENUM if of.kind == "e" else _SCALARS.get(of.oid)


def collect(*declared: Mapping[str, Operation]) -> dict[str, Operation]:
    """All declared operations. Raises LookupError for a signature that `pg_catalog` does not have, or that
    is declared twice.
    """
    found: dict[str, Operation] = {}
    for operations in declared:
        for signature, operation in operations.items():
            if signature not in SIGNATURES:
                raise LookupError(f"pg_catalog has no {signature}")
            if signature in found:
                raise LookupError(f"{signature} is declared twice")
            found[signature] = operation
    return found


OPERATIONS: Final = collect(*(module.OPERATIONS for module in _MODULES))


def operation_of(signature: str, server_version: int) -> Operation:
    """The operation on a server of `server_version` (`server_version_num`, 0 for the newest)."""
    return OPERATIONS[signature].for_server(server_version)


def cast_signature(function: str, target: PgType) -> str:
    """The signature of a cast by `function`, as in `CastTo`; that of reading text depends on the target
    alone.
    """
    return f"text::{target.name}" if function == "io" else function
