"""Source of COALESCE, GREATEST, LEAST, NULLIF and CASE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pgshapes.where.operations.registry import OPERATIONS
from pgshapes.where.source.emission import Emission
from pgshapes.where.tree import Case, Coalesce, Extreme, NullIf


def coalesce_value(emission: Emission, expr: Coalesce) -> str:
    """The first operand that is not NULL; later ones are not evaluated."""
    parts = []
    for arg in expr.args[:-1]:
        name = emission.names.temporary()
        parts.append(f"{name} if ({name} := {emission.value(arg)}) is not None else ")
    return f"({''.join(parts)}{emission.value(expr.args[-1])})"


def extreme_value(emission: Emission, expr: Extreme) -> str:
    """The greatest or least operand that is not NULL."""
    values = ", ".join(emission.value(arg) for arg in expr.args)
    function = greatest if expr.is_greatest else least
    return f"{emission.names.bind(function)}(({values},))"


def greatest(values: Iterable[Any]) -> Any:
    """The greatest that is not None, the first of equals; None if all are None."""
    return max((value for value in values if value is not None), default=None)


def least(values: Iterable[Any]) -> Any:
    """The least that is not None, the first of equals; None if all are None."""
    return min((value for value in values if value is not None), default=None)


def null_if_value(emission: Emission, expr: NullIf) -> str:
    """NULL when both are equal, else the left one."""
    left, right = emission.names.temporary(), emission.names.temporary()
    equal = emission.names.applied(OPERATIONS[expr.equality], [left, right])
    first, second = emission.value(expr.left), emission.value(expr.right)
    both = f"(({left} := {first}) is not None) & (({right} := {second}) is not None)"
    return f"(None if ({both}) and {equal} else {left})"


def case_value(emission: Emission, expr: Case) -> str:
    """The result of the first condition that is TRUE."""
    branches = [f"{emission.value(then)} if {emission.true(when)} else " for when, then in expr.whens]
    return f"({''.join(branches)}{emission.value(expr.default)})"
