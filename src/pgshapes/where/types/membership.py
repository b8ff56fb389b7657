"""ANY and ALL over the items of an array (manual: Row and Array Comparisons).

Equality is looked up among the distinct items, which are collected once for each array. Other comparisons
are made item by item and end where the result is known.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from pgshapes.where.types.arrays import Array
from pgshapes.where.types.large_values import derived
from pgshapes.where.types.operation import TooExpensive

Test = Callable[[Any, Any], bool]

_FEW: Final = 1_000
"""As many items are compared one by one as fast as they are collected."""
_MAX_STEPS: Final = 700_000_000
_STEPS_OF_PATTERN: Final = 33_000
"""Making the test of a pattern takes as long as testing this many characters: 0.1 ms."""


def any_of(test: Test, left: Any, array: Array | None) -> bool | None:
    """`left op ANY (array)`: an empty array is FALSE even for NULL."""
    if array is None:
        return None
    if not array.items:
        return False
    if left is None:
        return None
    result: bool | None = False
    for item in array.items:
        if item is None:
            result = None
        elif test(left, item):
            return True
    return result


def all_of(test: Test, left: Any, array: Array | None) -> bool | None:
    """`left op ALL (array)`: an empty array is TRUE even for NULL."""
    if array is None:
        return None
    if not array.items:
        return True
    if left is None:
        return None
    result: bool | None = True
    for item in array.items:
        if item is None:
            result = None
        elif not test(left, item):
            return False
    return result


def matches_any(test: Test, left: str | None, array: Array | None) -> bool | None:
    """`left LIKE ANY (array)`. Raises RowError, and TooExpensive."""
    _check_cost(left, array)
    return any_of(test, left, array)


def matches_all(test: Test, left: str | None, array: Array | None) -> bool | None:
    """`left LIKE ALL (array)`. Raises RowError, and TooExpensive."""
    _check_cost(left, array)
    return all_of(test, left, array)


def _check_cost(text: str | None, array: Array | None) -> None:
    if text is None or array is None:
        return
    if len(array.items) * (len(text) + _STEPS_OF_PATTERN) > _MAX_STEPS:
        raise TooExpensive(f"LIKE of {len(text):,} characters and {len(array.items):,} patterns")


def equals_any(left: Any, array: Array | None) -> bool | None:
    """`left = ANY (array)` for a type whose equal values are one key of a dictionary."""
    if array is None:
        return None
    if not array.items:
        return False
    if left is None:
        return None
    return _is_equal_to_any(left, array.items) or (None if _has_null(array.items) else False)


def differs_from_all(left: Any, array: Array | None) -> bool | None:
    """`left <> ALL (array)` for such a type."""
    return _negated(equals_any(left, array))


def differs_from_any(left: Any, array: Array | None) -> bool | None:
    """`left <> ANY (array)` for such a type."""
    if array is None:
        return None
    if not array.items:
        return False
    if left is None:
        return None
    values = derived(_distinct, array.items)
    others = len(values) - (left in values) - (None in values)
    return others > 0 or (None if _has_null(array.items) else False)


def equals_all(left: Any, array: Array | None) -> bool | None:
    """`left = ALL (array)` for such a type."""
    return _negated(differs_from_any(left, array))


def distinct_items(array: Array) -> AbstractSet[Any]:
    """The items of an array, NULL included; of a large one they are collected once."""
    return derived(_distinct, array.items)


def _negated(value: bool | None) -> bool | None:
    return None if value is None else not value


def _is_equal_to_any(left: Any, items: tuple[Any, ...]) -> bool:
    return left in (items if len(items) <= _FEW else derived(_distinct, items))


def _has_null(items: tuple[Any, ...]) -> bool:
    return None in (items if len(items) <= _FEW else derived(_distinct, items))


def _distinct(items: tuple[Any, ...]) -> AbstractSet[Any]:
    return frozenset(items)
