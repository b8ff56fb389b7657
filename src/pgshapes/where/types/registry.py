"""All operations by their signatures. Immutable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pgshapes.where.pg_catalog import FUNCTIONS, OPERATORS, SIGNATURES, PgType
from pgshapes.where.types.arrays import array_operations
from pgshapes.where.types.calendar import calendar_operations, calendar_operations_before_17
from pgshapes.where.types.casts import cast_operations
from pgshapes.where.types.comparisons import comparisons
from pgshapes.where.types.documents import document_operations
from pgshapes.where.types.floats import float_operations
from pgshapes.where.types.integers import integer_operations
from pgshapes.where.types.intervals import span_operations, span_operations_before_17
from pgshapes.where.types.numerics import numeric_operations
from pgshapes.where.types.operation import Operation
from pgshapes.where.types.text_casts import text_casts, text_casts_before_16
from pgshapes.where.types.texts import text_operations


def _by_signature() -> Iterator[tuple[str, Operation]]:
    """Operations that are declared by the names of functions in `pg_proc`, by their signatures."""
    named = dict(
        (
            *comparisons(),
            *integer_operations(),
            *float_operations(),
            *numeric_operations(),
            *text_operations(),
            *calendar_operations(),
            *span_operations(),
            *array_operations(),
            *document_operations(),
        )
    )
    older = dict((*calendar_operations_before_17(), *span_operations_before_17()))
    for name, operation in named.items():
        if name in older:
            named[name] = operation.before(170_000, older[name])
    for operators in OPERATORS.values():
        for one in operators:
            if one.function in named:
                yield one.signature, named[one.function]
    for functions in FUNCTIONS.values():
        for function in functions:
            name = f"{function.name}({','.join(map(str, function.arguments))})"
            name = "concat" if function.name == "concat" else name
            if name in named:
                yield function.signature, named[name]
    casts_before_16 = dict(text_casts_before_16())
    for name, operation in (*cast_operations(), *text_casts()):
        source, _, target = name.partition("_to_")
        if source != target:
            older_cast = casts_before_16.get(name)
            found = operation if older_cast is None else operation.before(160_000, older_cast)
            yield f"{source}::{target}", found


def _checked(declared: Iterable[tuple[str, Operation]]) -> dict[str, Operation]:
    """The operations. Raises LookupError for a signature that Postgres has not, or that is declared twice."""
    found: dict[str, Operation] = {}
    for signature, operation in declared:
        if signature not in SIGNATURES:
            raise LookupError(f"pg_catalog has no {signature}")
        if signature in found:
            raise LookupError(f"{signature} is declared twice")
        found[signature] = operation
    return found


OPERATIONS: Final = _checked(_by_signature())


def is_supported(signature: str) -> bool:
    """Whether an operator, function or cast can be carried out."""
    return signature in OPERATIONS


def operation_of(signature: str, server_version: int) -> Operation:
    """How a server of a version (`server_version_num`, 0 for the newest) carries it out."""
    return OPERATIONS[signature].for_server(server_version)


def cast_signature(function: str, target: PgType) -> str:
    """The signature of a conversion not to text; reading text goes by the target alone."""
    return f"text::{target.name}" if function == "io" else function
