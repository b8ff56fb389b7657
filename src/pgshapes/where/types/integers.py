"""int2, int4, int8: their values, arithmetic, comparisons and the casts to them from each other and from
text (manual: Integer Types).

Results out of range are errors, division truncates, the remainder has the sign of the dividend. From
Postgres 16 on, text that is cast to a number may have underscores and a prefix (`0x1F`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from itertools import product
from typing import Final

from pgshapes.where.types.operation import (
    SPACE,
    BadLiteral,
    Operation,
    RowError,
    TypeIO,
    comparisons,
    inline,
    raises,
    reads,
)

SIZES: Final = {"int2": 2, "int4": 4, "int8": 8}
"""The types and their sizes in bytes."""
_RANGES: Final = {size: (-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1) for size in SIZES.values()}
_SQL_NAMES: Final = {2: "smallint", 4: "integer", 8: "bigint"}

_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_PREFIXED: Final = re.compile(
    r"([+-]?)0(?:[xX]((?:_?[0-9a-fA-F])+)|[oO]((?:_?[0-7])+)|[bB]((?:_?[01])+))", re.ASCII
)
_UNDERSCORE: Final = re.compile(r"(?<=[0-9])_(?=[0-9])", re.ASCII)


def read_integer(text: str, size: int) -> int:
    """An integer of `size` bytes from a client's text. Raises BadLiteral."""
    trimmed = text.strip(SPACE)
    if _INTEGER.fullmatch(trimmed) is None:
        raise BadLiteral
    low, high = _RANGES[size]
    value = int(trimmed) if len(trimmed) < 400 else high + 1
    if not low <= value <= high:
        raise BadLiteral(f'value "{text[:60]}" is out of range for type {_SQL_NAMES[size]}')
    return value


def plain_digits(text: str) -> str:
    """A number without its prefix and underscores, in decimal digits; any other text unchanged."""
    trimmed = text.strip(SPACE)
    found = _PREFIXED.fullmatch(trimmed)
    if found is None:
        return _UNDERSCORE.sub("", trimmed)
    sign, *digits = found.groups()
    for base, part in zip((16, 8, 2), digits, strict=True):
        if part is not None:
            return f"{sign}{Decimal(int(part.replace('_', ''), base))}"
    return trimmed


def divide(left: int, right: int) -> int:
    """The quotient, truncated toward zero. Raises RowError."""
    if right == 0:
        raise RowError("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def remainder(left: int, right: int) -> int:
    """The remainder with the sign of `left`. Raises RowError."""
    if right == 0:
        raise RowError("division by zero")
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


def in_range(size: int) -> Callable[[int], int]:
    """A function that returns an integer of at most `size` bytes, and raises RowError for others."""
    low, high = _RANGES[size]

    def check(value: int) -> int:
        if low <= value <= high:
            return value
        raise RowError("integer out of range")

    return check


def _checked(operation: Callable[..., int], size: int) -> Operation:
    low, high = _RANGES[size]

    def apply(*operands: int) -> int:
        value = operation(*operands)
        if low <= value <= high:
            return value
        raise RowError("integer out of range")

    return raises(apply)


_ARITHMETIC: Final[dict[str, Callable[[int, int], int]]] = {
    "+": int.__add__,
    "-": int.__sub__,
    "*": int.__mul__,
    "/": divide,
}


def _between(left: str, right: str) -> Iterator[tuple[str, Operation]]:
    """The operations between two integer types; the larger one is the type of the result."""
    size = SIZES[right]
    for sign, operation in _ARITHMETIC.items():
        yield f"{left} {sign} {right}", _checked(operation, max(SIZES[left], size))
    if left != right:
        yield f"{left}::{right}", inline("{0}") if SIZES[left] < size else raises(in_range(size))
    yield from comparisons(left, right, is_keyed=True).items()


def _within(name: str, size: int) -> Iterator[tuple[str, Operation]]:
    yield f"{name} % {name}", _checked(remainder, size)
    yield f"- {name}", _checked(int.__neg__, size)
    yield f"+ {name}", inline("{0}")
    yield f"@ {name}", _checked(abs, size)
    yield f"abs({name})", _checked(abs, size)
    yield f"{name} & {name}", inline("({0} & {1})")
    yield f"{name} | {name}", inline("({0} | {1})")
    yield f"{name} # {name}", inline("({0} ^ {1})")
    yield f"~ {name}", inline("(~{0})")
    older = reads(partial(read_integer, size=size))
    yield f"text::{name}", reads(lambda text: read_integer(plain_digits(text), size)).before(160_000, older)


TYPES: Final = {
    name: TypeIO(int, partial(read_integer, size=size), str, is_canonical=True)
    for name, size in SIZES.items()
}
OPERATIONS: Final = {
    **{signature: one for pair in product(SIZES, repeat=2) for signature, one in _between(*pair)},
    **{signature: one for item in SIZES.items() for signature, one in _within(*item)},
}
