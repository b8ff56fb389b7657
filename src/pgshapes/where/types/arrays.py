"""Arrays: their values, text, functions, operators, elements and slices (manual: Arrays; Array Functions and
Operators).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from pgshapes.where.types.large_values import decoded
from pgshapes.where.types.operation import (
    SPACE,
    BadLiteral,
    RowError,
    TypeIO,
    calls,
    comparisons,
    inline,
    raises,
)

MAX_DIMENSIONS: Final = 6
_QUOTED: Final = frozenset('"\\{}, \t\n\v\f\r')


class Array(NamedTuple):
    """Sizes and lower bounds of the dimensions, and all items, the last dimension varying fastest; None is
    NULL.
    """

    sizes: tuple[int, ...]
    bounds: tuple[int, ...]
    items: tuple[Any, ...]


EMPTY: Final = Array((), (), ())


def vector(items: tuple[Any, ...]) -> Array:
    """The one-dimensional array of the items, with lower bound 1; empty without items."""
    return Array((len(items),), (1,), items) if items else EMPTY


def decode_array(text: str, decode: Callable[[str], Any]) -> Array:
    """An array from the server's text; `decode` converts an item's text."""
    if text.startswith("{") and '"' not in text and text.find("{", 1) < 0 and text != "{}":
        items = text[1:-1].split(",")
        return vector(tuple(None if item == "NULL" else decode(item) for item in items))
    return read_array(text, decode)


def read_array(text: str, decode: Callable[[str], Any]) -> Array:
    """An array from a client's text; `decode` converts an item's text. Raises BadLiteral."""
    bounds, body = _split_bounds(text.strip(SPACE))
    if not bounds and body.startswith("{") and body.endswith("}") and not body[1:-1].strip(SPACE):
        return EMPTY
    reader = _Reader(body, decode)
    sizes = reader.read_level(0)
    reader.expect_end()
    if not reader.items:
        if bounds:
            raise BadLiteral
        return EMPTY
    if bounds and tuple(high - low + 1 for low, high in bounds) != sizes:
        raise BadLiteral
    return Array(sizes, tuple(low for low, _ in bounds) or (1,) * len(sizes), tuple(reader.items))


def write_array(array: Array, write: Callable[[Any], str]) -> str:
    """The text that `array_out` writes; `write` makes an item's text."""
    if not array.sizes:
        return "{}"
    texts = ["NULL" if item is None else _quote(write(item)) for item in array.items]
    for size in reversed(array.sizes):
        texts = ["{" + ",".join(texts[at : at + size]) + "}" for at in range(0, len(texts), size)]
    if all(bound == 1 for bound in array.bounds):
        return texts[0]
    shown = (f"[{low}:{low + size - 1}]" for low, size in zip(array.bounds, array.sizes, strict=True))
    return "".join(shown) + "=" + texts[0]


def _quote(text: str) -> str:
    if text and text.upper() != "NULL" and not _QUOTED.intersection(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _split_bounds(text: str) -> tuple[list[tuple[int, int]], str]:
    """`[1:2][0:3]={…}` as bounds and body."""
    if not text.startswith("["):
        return [], text
    head, _, body = text.partition("=")
    bounds = []
    for part in head.removeprefix("[").removesuffix("]").split("]["):
        low, colon, high = part.partition(":")
        try:
            bounds.append((int(low), int(high)) if colon else (1, int(low)))
        except ValueError:
            raise BadLiteral from None
    return bounds, body.lstrip(SPACE)


class _Reader:
    """Reads `{…}` left to right; every level must have the same size."""

    def __init__(self, text: str, decode: Callable[[str], Any]) -> None:
        self.text = text
        self.decode = decode
        self.at = 0
        self.items: list[Any] = []

    def read_level(self, depth: int) -> tuple[int, ...]:
        """Read one pair of braces and its contents; the sizes, outermost first."""
        if depth >= MAX_DIMENSIONS or self._next() != "{":
            raise BadLiteral
        self.at += 1
        shapes: list[tuple[int, ...]] = []
        while self._next() != "}":
            if shapes:
                self._take(",")
            shapes.append(self.read_level(depth + 1) if self._next() == "{" else self._item())
        self.at += 1
        if not shapes or any(shape != shapes[0] for shape in shapes):
            raise BadLiteral
        return (len(shapes), *shapes[0])

    def expect_end(self) -> None:
        """Only blanks may follow."""
        if self.text[self.at :].strip(SPACE):
            raise BadLiteral

    def _next(self) -> str:
        while self.at < len(self.text) and self.text[self.at] in SPACE:
            self.at += 1
        if self.at >= len(self.text):
            raise BadLiteral
        return self.text[self.at]

    def _take(self, character: str) -> None:
        if self._next() != character:
            raise BadLiteral
        self.at += 1

    def _item(self) -> tuple[int, ...]:
        if self._next() == '"':
            self.items.append(self.decode(self._quoted()))
            return ()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in ',{}"\\':
            self.at += 1
        word = self.text[start : self.at].strip(SPACE)
        if not word or self.at >= len(self.text) or self.text[self.at] in '"\\{':
            raise BadLiteral
        self.items.append(None if word.upper() == "NULL" else self.decode(word))
        return ()

    def _quoted(self) -> str:
        self.at += 1
        piece: list[str] = []
        while True:
            if self.at >= len(self.text):
                raise BadLiteral
            character = self.text[self.at]
            if character == "\\" and self.at + 1 < len(self.text):
                self.at += 1
                piece.append(self.text[self.at])
            elif character == '"':
                self.at += 1
                return "".join(piece)
            else:
                piece.append(character)
            self.at += 1


def contains(left: Array, right: Array) -> bool:
    """`left @> right`: every element of `right` is in `left`; NULL is equal to nothing."""
    return None not in right.items and set(left.items).issuperset(right.items)


def contained(left: Array, right: Array) -> bool:
    """`left <@ right`."""
    return contains(right, left)


def overlaps(left: Array, right: Array) -> bool:
    """`left && right`: an element that is not NULL is in both."""
    return any(item is not None for item in set(left.items).intersection(right.items))


def concatenate(left: Array | None, right: Array | None) -> Array | None:
    """`array_cat`: a NULL array adds nothing. Raises RowError for dimensions that do not fit."""
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
    """`array_length`: NULL for a dimension that the array does not have."""
    return array.sizes[dimension - 1] if 0 < dimension <= len(array.sizes) else None


def array_order(array: Array) -> tuple[Any, ...]:
    """The sort key: items, of which NULL is the greatest, then number of items, dimensions, bounds."""
    items = [(item is None, item) if item is not None else (True, 0) for item in array.items]
    return (items, len(array.items), len(array.sizes), array.sizes, array.bounds)


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
    """The slice, with lower bounds 1. `given` says which bounds are written; the others are the array's."""
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
    """The array whose elements are the arrays. Raises RowError when their sizes differ."""
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


def large_array(text: str, decode: Callable[[str], Any]) -> Array:
    """As `decode_array`; a large array is kept (`large_values`)."""
    return decoded(partial(decode_array, decode=decode), text, key=decode)


def array_io(element: TypeIO) -> TypeIO:
    """The conversions of an array, made of those of its elements."""
    return TypeIO(
        partial(large_array, decode=element.decode),
        partial(read_array, decode=element.read),
        partial(write_array, write=element.write),
        is_canonical=False,
    )


OPERATIONS: Final = {
    **comparisons(
        "anyarray", "anyarray", operands=("array_order({0})", "array_order({1})"), is_collated=True
    ),
    "anyarray = anyarray": inline("{0} == {1}", collation="equal"),
    "anyarray <> anyarray": inline("{0} != {1}", collation="equal"),
    "anyarray @> anyarray": calls(contains, collation="equal"),
    "anyarray <@ anyarray": calls(contained, collation="equal"),
    "anyarray && anyarray": calls(overlaps, collation="equal"),
    "anycompatiblearray || anycompatiblearray": raises(concatenate),
    "anycompatiblearray || anycompatible": raises(append),
    "anycompatible || anycompatiblearray": raises(prepend),
    "array_cat(anycompatiblearray, anycompatiblearray)": raises(concatenate),
    "array_append(anycompatiblearray, anycompatible)": raises(append),
    "array_prepend(anycompatible, anycompatiblearray)": raises(prepend),
    "array_ndims(anyarray)": inline("len({0}.sizes) or None"),
    "cardinality(anyarray)": inline("len({0}.items)"),
    "array_length(anyarray, int4)": calls(length),
}
