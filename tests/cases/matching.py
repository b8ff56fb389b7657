"""The pattern language of the HTTP cases.

Plain JSON must be equal, but an object needs only the members that the pattern names, and a list all of its
items. Besides: `{"$any":true}` whatever is there, `{"$absent":true}` nothing, `{"$exact":x}` x and nothing
more, `{"$not":x}` anything but x, `{"$re":r}` text that the expression is found in, `{"$save":n}` whatever,
bound to n, `"$n"` what n is bound to, `{"$plus":["$n",2]}` that and 2 more, `{"$set":[…]}` and
`{"$superset":[…]}` a comma list as a set.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

Bound = dict[str, Any]

MISSING: Final = object()
"""Stands for a member or header that is not there."""

_REFERENCE = re.compile(r"\$([a-z_]\w*)")


class Mismatch(AssertionError):
    """A value that does not match; says where."""


def require(condition: bool, path: str, text: str) -> None:
    """Raise Mismatch unless the condition holds."""
    if not condition:
        raise Mismatch(f"{path}: {text}")


def fill(pattern: Any, bound: Bound) -> Any:
    """The pattern with the values of bound names put in."""
    if isinstance(pattern, str):
        found = _REFERENCE.fullmatch(pattern)
        return bound[found[1]] if found and found[1] in bound else pattern
    if isinstance(pattern, dict):
        return {key: fill(item, bound) for key, item in pattern.items()}
    if isinstance(pattern, list):
        return [fill(item, bound) for item in pattern]
    return pattern


def match(pattern: Any, value: Any, bound: Bound, path: str = "$") -> None:
    """Check a value against a pattern, binding names on the way. Raises Mismatch."""
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
    """Whether a value matches; binds nothing."""
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
    """Whatever is there will do."""


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
