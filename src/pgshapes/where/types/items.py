"""Casts of arrays, item by item (manual: ArrayCoerceExpr in the executor)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pgshapes.where.pg_catalog import PgType
from pgshapes.where.types.arrays import Array
from pgshapes.where.types.operation import Operation
from pgshapes.where.types.registry import cast_signature
from pgshapes.where.types.type_io import type_io


def item_conversion(
    function: str, source: PgType, target: PgType, cast: Callable[[str], Operation]
) -> Callable[[Array], Array]:
    """The conversion of an array whose items `function` converts from `source` to `target`."""
    convert = _conversion(function, source, target, cast)
    return lambda array: array._replace(
        items=tuple(None if item is None else convert(item) for item in array.items)
    )


def _conversion(
    function: str, source: PgType, target: PgType, cast: Callable[[str], Operation]
) -> Callable[[Any], Any]:
    if function == "relabel":
        return lambda item: item
    if function == "io" and target.category == "S":
        io = type_io(source)
        assert io is not None
        return io.write
    operation = cast(cast_signature(function, target))
    return operation.call or _compiled(operation.template)


def _compiled(template: str) -> Callable[[Any], Any]:
    """A template of ours as a function."""
    function: Callable[[Any], Any] = eval(f"lambda item: {template.format('item')}", {"Decimal": Decimal})
    return function
