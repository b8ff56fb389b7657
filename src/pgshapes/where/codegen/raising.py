"""Whether evaluating an expression may raise an error in Postgres."""

from __future__ import annotations

from pgshapes.where.codegen.matching import is_constant_match
from pgshapes.where.language.tree import Apply, ArrayOf, CastTo, Expr, Quantified, walk
from pgshapes.where.types.registry import CAST_OPERATIONS, OPERATIONS, cast_name


def may_raise(expr: Expr) -> bool:
    """Whether any part of the expression may raise RowError."""
    return any(_raises_itself(node) for node in walk(expr))


def _raises_itself(node: Expr) -> bool:
    match node:
        case Apply() if is_constant_match(node):
            return False
        case Apply(function=function) | Quantified(function=function):
            return OPERATIONS[function].can_raise
        case CastTo(function=function):
            target = node.type.element or node.type
            name = cast_name(function.removeprefix("array:"), target)
            return bool(node.modifier) or (name in CAST_OPERATIONS and CAST_OPERATIONS[name].can_raise)
        case ArrayOf(items=items):
            return any(item.type.is_array for item in items)
        case _:
            return False
