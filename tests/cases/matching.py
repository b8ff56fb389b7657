"""The pattern language of the HTTP cases.

A pattern is JSON. It matches an equal value, but an object may have more members than its pattern; a list
must have the same number of items. Operators: `{"$any":true}` matches any value, `{"$absent":true}` a missing
one, `{"$exact":x}` a value equal to x without further members, `{"$not":x}` a value that differs from x,
`{"$re":r}` a text in which the expression r is found. `{"$save":n}` matches any value and binds it to n;
`"$n"` matches the value of n, `{"$plus":["$n",2]}` that value plus 2. `{"$set":[…]}` and `{"$superset":[…]}`
match a comma-separated list as a set.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

Bound = dict[str, Any]

MISSING: Final = object()
"""The value of a missing member or header."""

_REFERENCE = re.compile(r"\$([a-z_]\w*)")


class Mismatch(AssertionError):
    """A value does not match; the message has its path."""


def require(condition: bool, path: str, text: str) -> None:
    """Raise Mismatch unless the condition is true."""
    if not condition:
        raise Mismatch(f"{path}: {text}")


def fill(pattern: Any, bound: Bound) -> Any:
    """The pattern with bound names replaced by their values."""
    if isinstance(pattern, str):
        found = _REFERENCE.fullmatch(pattern)
        return bound[found[1]] if found and found[1] in bound else pattern
    if isinstance(pattern, dict):
        return {key: fill(item, bound) for key, item in pattern.items()}
    if isinstance(pattern, list):
        return [fill(item, bound) for item in pattern]
    return pattern


def match(pattern: Any, value: Any, bound: Bound, path: str = "$") -> None:
    """Match a value against a pattern and bind names. Raises Mismatch."""
    operator, argument = _operator_of(pattern)
    if operator == "$absent":
        require(value is MISSING, path, f"should be absent, is {value!r}")
        return
    require(value is not MISSING, path, "is missing")
    if operator is not None:
        _OPERATORS[operator](argument, value, bound, path)
    elif isinstance(pattern, dict):
        _match_object(pattern, value, bound, path)
    elif isinstance(pattern, list):
        _match_list(pattern, value, bound, path)
    else:
        wanted = fill(pattern, bound)
        require(value == wanted, path, f"is {value!r}, should be {wanted!r}")


def matches(pattern: Any, value: Any, bound: Bound) -> bool:
    """Whether a value matches; binds no names."""
    try:
        match(pattern, value, dict(bound))
    except Mismatch:
        return False
    return True


def _operator_of(pattern: Any) -> tuple[str | None, Any]:
    if isinstance(pattern, dict) and len(pattern) == 1:
        ((name, argument),) = pattern.items()
        if name.startswith("$"):
            return name, argument
    return None, None


def _match_object(pattern: dict[str, Any], value: Any, bound: Bound, path: str) -> None:
    require(isinstance(value, dict), path, f"should be an object, is {value!r}")
    for key, item in pattern.items():
        match(item, value.get(key, MISSING), bound, f"{path}.{key}")


def _match_list(pattern: list[Any], value: Any, bound: Bound, path: str) -> None:
    require(isinstance(value, list), path, f"should be a list, is {value!r}")
    require(len(value) == len(pattern), path, f"should have {len(pattern)} items: {value!r}")
    for index, item in enumerate(pattern):
        match(item, value[index], bound, f"{path}[{index}]")


def _any(_: Any, value: Any, bound: Bound, path: str) -> None:
    """Match any value that is not missing."""


def _exact(argument: Any, value: Any, bound: Bound, path: str) -> None:
    wanted = fill(argument, bound)
    require(value == wanted, path, f"is {value!r}, should be exactly {wanted!r}")


def _not(argument: Any, value: Any, bound: Bound, path: str) -> None:
    require(value != fill(argument, bound), path, f"is {value!r}, should differ")


def _expression(argument: Any, value: Any, bound: Bound, path: str) -> None:
    require(re.search(argument, str(value)) is not None, path, f"{value!r} does not match /{argument}/")


def _save(argument: Any, value: Any, bound: Bound, path: str) -> None:
    bound[argument] = value


def _plus(argument: Any, value: Any, bound: Bound, path: str) -> None:
    wanted = fill(argument[0], bound) + argument[1]
    require(value == wanted, path, f"is {value!r}, should be {wanted!r}")


def _as_set(value: str) -> set[str]:
    return {item.strip() for item in value.split(",")}


def _set(argument: Any, value: Any, bound: Bound, path: str) -> None:
    require(_as_set(value) == set(argument), path, f"is {value!r}, should be the set {argument!r}")


def _superset(argument: Any, value: Any, bound: Bound, path: str) -> None:
    require(_as_set(value) >= set(argument), path, f"is {value!r}, should have all of {argument!r}")


_OPERATORS: Final[dict[str, Callable[[Any, Any, Bound, str], None]]] = {
    "$any": _any,
    "$exact": _exact,
    "$not": _not,
    "$re": _expression,
    "$save": _save,
    "$plus": _plus,
    "$set": _set,
    "$superset": _superset,
}
