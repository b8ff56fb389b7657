"""`= <> < > <= >=`, by the names of their functions in `pg_proc`.

Values are made so that Python's own comparison is Postgres's: NaN is an object that sorts above all,
infinities are the largest integers, uuids and bytea are text whose order is that of their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pgshapes.where.types import times
from pgshapes.where.types.arrays import Array
from pgshapes.where.types.operation import Operation, inline

_SIGNS: Final = {"eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">="}
_NUMBERS: Final = (
    *("int2", "int4", "int8", "int24", "int42", "int28", "int82", "int48", "int84"),
    *("float4", "float8", "float48", "float84"),
)
_SAME: Final = ("numeric_", "uuid_", "date_", "time_", "timestamp_", "timestamptz_", "bytea", "bool")
_CANONICAL: Final = frozenset({"int2", "int4", "int8", "int24", "int42", "int28", "int82", "int48", "int84"})
_CANONICAL_SAME: Final = frozenset(_SAME) - {"numeric_"}
_ORDERED_TEXT: Final = frozenset({"date_", "timestamp_", "timestamptz_"})
_STAMPS: Final = ("timestamp", "timestamptz")


def stamp_of_date(days: int) -> int:
    """A date as a timestamp to compare with: what is beyond timestamps stays below infinity."""
    if days == times.DATE_INFINITY:
        return times.TIMESTAMP_INFINITY
    if days == times.DATE_NEGATIVE_INFINITY:
        return times.TIMESTAMP_NEGATIVE_INFINITY
    return min(days * times.DAY_US, times.TIMESTAMP_INFINITY - 1)


def array_order(array: Array) -> tuple[Any, ...]:
    """What arrays are ordered by: items, of which NULL is the greatest, then number, dimensions, bounds."""
    items = [(item is None, item) if item is not None else (True, 0) for item in array.items]
    return (items, len(array.items), len(array.sizes), array.sizes, array.bounds)


def comparisons() -> Iterator[tuple[str, Operation]]:
    """All comparison functions by name."""
    for word, sign in _SIGNS.items():
        plain = f"{{0}} {sign} {{1}}"
        equality = word if word in ("eq", "ne") else ""
        for stem in _NUMBERS:
            yield f"{stem}{word}", inline(plain, equality=equality if stem in _CANONICAL else "")
        for stem in _SAME:
            same = inline(plain, equality=equality if stem in _CANONICAL_SAME else "")
            is_ordered = stem in _ORDERED_TEXT and not equality
            yield f"{stem}{word}", same._replace(ordered_text=sign) if is_ordered else same
        yield from _texts(word, sign)
        yield from _dates(word, sign)
        yield f"interval_{word}", inline(plain)
    yield "enum_eq", inline("{0} == {1}", equality="eq")
    yield "enum_ne", inline("{0} != {1}", equality="ne")
    for word, sign in _SIGNS.items():
        if word not in ("eq", "ne"):
            yield f"array_{word}", inline(f"array_order({{0}}) {sign} array_order({{1}})", collation="order")
    yield "array_eq", inline("{0} == {1}", collation="equal")
    yield "array_ne", inline("{0} != {1}", collation="equal")


def _texts(word: str, sign: str) -> Iterator[tuple[str, Operation]]:
    equality = word if word in ("eq", "ne") else ""
    collation = "equal" if equality else "order"
    plain = inline(f"{{0}} {sign} {{1}}", collation=collation, equality=equality)
    yield f"text{word}" if equality else f"text_{word}", plain
    yield from ((name, plain) for name in (f"name{word}", f"name{word}text", f"text{word}name"))
    yield f"bpchar{word}", inline(f'{{0}}.rstrip(" ") {sign} {{1}}.rstrip(" ")', collation=collation)


def _dates(word: str, sign: str) -> Iterator[tuple[str, Operation]]:
    for stamp in _STAMPS:
        yield f"date_{word}_{stamp}", inline(f"stamp_of_date({{0}}) {sign} {{1}}")
        yield f"{stamp}_{word}_date", inline(f"{{0}} {sign} stamp_of_date({{1}})")
    yield f"timestamp_{word}_timestamptz", inline(f"{{0}} {sign} {{1}}")
    yield f"timestamptz_{word}_timestamp", inline(f"{{0}} {sign} {{1}}")
