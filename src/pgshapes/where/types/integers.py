"""int2, int4 and int8: results out of range are errors, division truncates, the remainder has the
dividend's sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from pgshapes.where.types.numbers import INT_RANGES
from pgshapes.where.types.operation import Operation, RowError, inline, raises

_PAIRS: Final = (
    ("2", 2),
    ("4", 4),
    ("8", 8),
    ("24", 4),
    ("42", 4),
    ("28", 8),
    ("82", 8),
    ("48", 8),
    ("84", 8),
)


def divide(left: int, right: int) -> int:
    """The quotient, toward zero. Raises RowError."""
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


_BINARY: Final[dict[str, Callable[[int, int], int]]] = {
    "pl": int.__add__,
    "mi": int.__sub__,
    "mul": int.__mul__,
    "div": divide,
}


def in_range(size: int) -> Callable[[int], int]:
    """A check that an integer fits `size` bytes; it returns it or raises RowError."""
    low, high = INT_RANGES[size]

    def check(value: int) -> int:
        if low <= value <= high:
            return value
        raise RowError("integer out of range")

    return check


def _checked(operation: Callable[..., int], size: int) -> Operation:
    low, high = INT_RANGES[size]

    def apply(*operands: int) -> int:
        value = operation(*operands)
        if low <= value <= high:
            return value
        raise RowError("integer out of range")

    return raises(apply)


def integer_operations() -> Iterator[tuple[str, Operation]]:
    """All integer functions by name."""
    for stem, size in _PAIRS:
        for word, operation in _BINARY.items():
            yield f"int{stem}{word}", _checked(operation, size)
    for size in INT_RANGES:
        yield f"int{size}mod", _checked(remainder, size)
        yield f"int{size}um", _checked(int.__neg__, size)
        yield f"int{size}up", inline("{0}")
        yield f"int{size}abs", _checked(abs, size)
        yield f"int{size}and", inline("({0} & {1})")
        yield f"int{size}or", inline("({0} | {1})")
        yield f"int{size}xor", inline("({0} ^ {1})")
        yield f"int{size}not", inline("(~{0})")
    for oid, size in ((21, 2), (23, 4), (20, 8)):
        yield f"abs({oid})", _checked(abs, size)
