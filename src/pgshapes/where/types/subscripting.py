"""Elements and slices of arrays, and arrays made of arrays (manual: Accessing Arrays)."""

from __future__ import annotations

from typing import Any

from pgshapes.where.types.arrays import EMPTY, Array
from pgshapes.where.types.operation import RowError


def element_at(array: Array, subscripts: tuple[int | None, ...]) -> Any:
    """The element, None outside the array, for NULL and for a wrong number of subscripts."""
    if None in subscripts or len(subscripts) != len(array.sizes):
        return None
    position = 0
    for subscript, size, bound in zip(subscripts, array.sizes, array.bounds, strict=True):
        assert subscript is not None
        if not 0 <= subscript - bound < size:
            return None
        position = position * size + subscript - bound
    return array.items[position]


def slice_of(
    array: Array,
    lower: tuple[int | None, ...],
    upper: tuple[int | None, ...],
    given: tuple[tuple[bool, bool], ...],
) -> Array | None:
    """The part between the bounds, from 1 on; `given` says which bounds are written, the others are the
    array's.
    """
    bounds = [(low, high) for low, high in zip(lower, upper, strict=True)]
    pairs = zip(bounds, given, strict=True)
    if any((a and low is None) or (b and high is None) for (low, high), (a, b) in pairs):
        return None
    if len(bounds) > len(array.sizes) or not array.sizes:
        return EMPTY
    spans = []
    for axis, (size, bound) in enumerate(zip(array.sizes, array.bounds, strict=True)):
        low, high = bounds[axis] if axis < len(bounds) else (None, None)
        first = bound if low is None else max(low, bound)
        last = bound + size - 1 if high is None else min(high, bound + size - 1)
        if first > last:
            return EMPTY
        spans.append((first - bound, last - bound + 1))
    items = _cut(array.items, array.sizes, spans)
    return Array(tuple(end - start for start, end in spans), (1,) * len(spans), tuple(items))


def _cut(items: tuple[Any, ...], sizes: tuple[int, ...], spans: list[tuple[int, int]]) -> list[Any]:
    if len(sizes) == 1:
        return list(items[spans[0][0] : spans[0][1]])
    step = len(items) // sizes[0]
    parts = (items[row * step : (row + 1) * step] for row in range(*spans[0]))
    return [item for part in parts for item in _cut(part, sizes[1:], spans[1:])]


def stack(arrays: tuple[Array | None, ...]) -> Array:
    """An array of arrays. Raises RowError when their sizes differ."""
    parts = [array for array in arrays if array is not None and array.sizes]
    if not parts:
        return EMPTY
    first = parts[0]
    if len(parts) < len(arrays) or any(part[:2] != first[:2] for part in parts):
        raise RowError("multidimensional arrays must have array expressions with matching dimensions")
    if len(first.sizes) >= 6:
        raise RowError("number of array dimensions exceeds the maximum allowed (6)")
    items = tuple(item for part in parts for item in part.items)
    return Array((len(parts), *first.sizes), (1, *first.bounds), items)
