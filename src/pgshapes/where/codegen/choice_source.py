"""Source of COALESCE, GREATEST, LEAST, NULLIF and CASE."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pgshapes.where.codegen.emission import Emission
from pgshapes.where.language.tree import Case, Coalesce, Extreme, NullIf
from pgshapes.where.pg_catalog import BPCHAR, PgType
from pgshapes.where.types.comparisons import array_order
from pgshapes.where.types.registry import OPERATIONS


def coalesce_value(emission: Emission, expr: Coalesce) -> str:
    """The first operand that is not NULL; later ones are not evaluated."""
    parts = []
    for arg in expr.args[:-1]:
        name = emission.names.temporary()
        parts.append(f"{name} if ({name} := {emission.value(arg)}) is not None else ")
    return f"({''.join(parts)}{emission.value(expr.args[-1])})"


def extreme_value(emission: Emission, expr: Extreme) -> str:
    """The greatest or least operand that is not NULL, the first of equals."""
    values = ", ".join(emission.value(arg) for arg in expr.args)
    choose = partial(_extreme, max if expr.is_greatest else min, _order_of(expr.type))
    return f"{emission.names.bind(choose)}(({values},))"


def _extreme(choose: Callable[..., Any], order: Callable[[Any], Any] | None, values: Iterable[Any]) -> Any:
    return choose((value for value in values if value is not None), key=order, default=None)


def _order_of(kind: PgType) -> Callable[[Any], Any] | None:
    """What values are ordered by, where that is not themselves."""
    if kind.is_array:
        return array_order
    return _without_blanks if kind.oid == BPCHAR else None


def _without_blanks(text: str) -> str:
    return text.rstrip(" ")


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
