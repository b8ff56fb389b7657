"""Functions and operators of arrays (manual: Array Functions and Operators)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgshapes.where.types.arrays import EMPTY, Array, vector
from pgshapes.where.types.operation import Operation, RowError, calls, inline, raises


def contains(left: Array, right: Array) -> bool:
    """`left @> right`: every element of `right` is in `left`; NULL is equal to nothing."""
    return None not in right.items and set(left.items).issuperset(right.items)


def contained(left: Array, right: Array) -> bool:
    """`left <@ right`."""
    return contains(right, left)


def overlaps(left: Array, right: Array) -> bool:
    """`left && right`: they have an element in common that is not NULL."""
    return any(item is not None for item in set(left.items).intersection(right.items))


def concatenate(left: Array | None, right: Array | None) -> Array | None:
    """`array_cat`: NULL counts as nothing to add. Raises RowError for dimensions that do not fit."""
    if left is None or right is None:
        return right if left is None else left
    if not left.sizes or not right.sizes:
        return right if not left.sizes else left
    if len(left.sizes) == len(right.sizes):
        sizes, bounds = (left.sizes[0] + right.sizes[0], *left.sizes[1:]), left.bounds
        fits = left.sizes[1:] == right.sizes[1:] and left.bounds[1:] == right.bounds[1:]
    elif len(left.sizes) == len(right.sizes) - 1:
        sizes, bounds = (right.sizes[0] + 1, *right.sizes[1:]), right.bounds
        fits = left.sizes == right.sizes[1:] and left.bounds == right.bounds[1:]
    elif len(left.sizes) == len(right.sizes) + 1:
        sizes, bounds = (left.sizes[0] + 1, *left.sizes[1:]), left.bounds
        fits = right.sizes == left.sizes[1:] and right.bounds == left.bounds[1:]
    else:
        fits, sizes, bounds = False, (), ()
    if not fits:
        raise RowError("cannot concatenate incompatible arrays")
    return Array(sizes, bounds, left.items + right.items)


def append(array: Array | None, item: Any) -> Array:
    """`array_append`. Raises RowError for an array of several dimensions."""
    array = array or EMPTY
    _require_vector(array)
    if not array.sizes:
        return vector((item,))
    return Array((array.sizes[0] + 1,), array.bounds, (*array.items, item))


def prepend(item: Any, array: Array | None) -> Array:
    """`array_prepend`: the lower bound stays. Raises RowError for an array of several dimensions."""
    array = array or EMPTY
    _require_vector(array)
    if not array.sizes:
        return vector((item,))
    return Array((array.sizes[0] + 1,), array.bounds, (item, *array.items))


def _require_vector(array: Array) -> None:
    if len(array.sizes) > 1:
        raise RowError("argument must be empty or one-dimensional array")


def length(array: Array, dimension: int) -> int | None:
    """`array_length`: NULL for a dimension that the array has not."""
    return array.sizes[dimension - 1] if 0 < dimension <= len(array.sizes) else None


def array_operations() -> Iterator[tuple[str, Operation]]:
    """All array functions by name."""
    for name, test in (("contains", contains), ("contained", contained), ("overlap", overlaps)):
        yield f"array{name}", calls(test, collation="equal")
    yield "array_cat", raises(concatenate)
    yield "array_append", raises(append)
    yield "array_prepend", raises(prepend)
    yield "array_cat(5078,5078)", raises(concatenate)
    yield "array_append(5078,5077)", raises(append)
    yield "array_prepend(5077,5078)", raises(prepend)
    yield "array_ndims(2277)", inline("len({0}.sizes) or None")
    yield "cardinality(2277)", inline("len({0}.items)")
    yield "array_length(2277,23)", calls(length)
