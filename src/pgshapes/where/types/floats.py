"""float4 and float8: IEEE arithmetic, with an error where Postgres has one (overflow, underflow, division
by zero).

float4 results are computed in float8 and rounded once, which is exact for `+ - * /` and sqrt. `^` is not
here: its last digit depends on the server's mathematical library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from pgshapes.where.types.numbers import NAN, NotANumber, pack_float4
from pgshapes.where.types.operation import Operation, RowError, calls, inline, raises

Float = float | NotANumber


def _shown(value: float) -> Float:
    return NAN if math.isnan(value) else value


def _add(left: float, right: float) -> float:
    return left + right


def _subtract(left: float, right: float) -> float:
    return left - right


def _multiply(left: float, right: float) -> float:
    return left * right


def _divide(left: float, right: float) -> float:
    if right == 0:
        raise RowError("division by zero")
    return left / right


def _may_vanish_product(left: float, right: float) -> bool:
    return left == 0 or right == 0


def _may_vanish_quotient(left: float, right: float) -> bool:
    return left == 0 or math.isinf(right)


def _never(_left: float, _right: float) -> bool:
    return True


_OPERATIONS: Final[dict[str, tuple[Callable[[float, float], float], Callable[[float, float], bool]]]] = {
    "pl": (_add, _never),
    "mi": (_subtract, _never),
    "mul": (_multiply, _may_vanish_product),
    "div": (_divide, _may_vanish_quotient),
}


def _arithmetic(word: str, fit: Callable[[float], float]) -> Operation:
    operation, may_be_zero = _OPERATIONS[word]
    is_division = word == "div"

    def apply(left: Float, right: Float) -> Float:
        if isinstance(left, NotANumber) or isinstance(right, NotANumber):
            if is_division and right == 0 and not isinstance(left, NotANumber):
                raise RowError("division by zero")
            return NAN
        value = fit(operation(left, right))
        if math.isinf(value) and not math.isinf(left) and (is_division or not math.isinf(right)):
            raise RowError("value out of range: overflow")
        if value == 0 and not may_be_zero(left, right):
            raise RowError("value out of range: underflow")
        return _shown(value)

    return raises(apply)


def negate(value: Float) -> Float:
    """Unary minus."""
    return value if isinstance(value, NotANumber) else -value


def absolute(value: Float) -> Float:
    """Without its sign."""
    return value if isinstance(value, NotANumber) else abs(value)


def square_root(value: Float) -> Float:
    """Raises RowError for a negative number."""
    if isinstance(value, NotANumber):
        return value
    if value < 0:
        raise RowError("cannot take square root of a negative number")
    return math.sqrt(value)


def float_operations() -> Iterator[tuple[str, Operation]]:
    """All float functions by name."""
    for word in _OPERATIONS:
        yield f"float4{word}", _arithmetic(word, pack_float4)
        for stem in ("float8", "float48", "float84"):
            yield f"{stem}{word}", _arithmetic(word, float)
    for stem, oid in (("float4", 700), ("float8", 701)):
        yield f"{stem}um", calls(negate)
        yield f"{stem}up", inline("{0}")
        yield f"{stem}abs", calls(absolute)
        yield f"abs({oid})", calls(absolute)
    yield "dsqrt", raises(square_root)
