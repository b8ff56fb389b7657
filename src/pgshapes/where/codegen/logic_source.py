"""Source of AND, OR, NOT, the IS tests, COALESCE, GREATEST, LEAST, NULLIF and CASE."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pgshapes.where.codegen.emission import Emission, is_canonical, may_raise
from pgshapes.where.language.tree import (
    Case,
    Coalesce,
    ColumnRef,
    Connective,
    Const,
    Expr,
    Extreme,
    IsDistinct,
    IsNull,
    IsTruth,
    Logic,
    NullIf,
    plain_column,
)
from pgshapes.where.pg_catalog import BPCHAR, PgType
from pgshapes.where.types.arrays import array_order
from pgshapes.where.types.registry import OPERATIONS


def coalesce_value(emission: Emission, expr: Coalesce) -> str:
    """Source of COALESCE: the operands after the first that is not NULL are not evaluated."""
    parts = []
    for arg in expr.args[:-1]:
        name = emission.names.temporary()
        parts.append(f"{name} if ({name} := {emission.value(arg)}) is not None else ")
    return f"({''.join(parts)}{emission.value(expr.args[-1])})"


def extreme_value(emission: Emission, expr: Extreme) -> str:
    """Source of GREATEST and LEAST; the first of equal operands is taken."""
    values = ", ".join(emission.value(arg) for arg in expr.args)
    choose = partial(_extreme, max if expr.is_greatest else min, _order_of(expr.type))
    return f"{emission.names.bind(choose)}(({values},))"


def _extreme(choose: Callable[..., Any], order: Callable[[Any], Any] | None, values: Iterable[Any]) -> Any:
    return choose((value for value in values if value is not None), key=order, default=None)


def _order_of(kind: PgType) -> Callable[[Any], Any] | None:
    """The sort key of a type's values, None where the values are ordered as they are."""
    if kind.is_array:
        return array_order
    return _without_blanks if kind.oid == BPCHAR else None


def _without_blanks(text: str) -> str:
    return text.rstrip(" ")


def null_if_value(emission: Emission, expr: NullIf) -> str:
    """Source of NULLIF."""
    left, right = emission.names.temporary(), emission.names.temporary()
    equal = emission.names.applied(OPERATIONS[expr.equality], [left, right])
    first, second = emission.value(expr.left), emission.value(expr.right)
    both = f"(({left} := {first}) is not None) & (({right} := {second}) is not None)"
    return f"(None if ({both}) and {equal} else {left})"


def case_value(emission: Emission, expr: Case) -> str:
    """Source of CASE."""
    branches = [f"{emission.value(then)} if {emission.true(when)} else " for when, then in expr.whens]
    return f"({''.join(branches)}{emission.value(expr.default)})"


def logic_value(emission: Emission, expr: Logic) -> str:
    """Source of the three-valued result; operands are evaluated from left to right and no further than in
    Postgres.
    """
    if expr.connective is Connective.NOT:
        name = emission.names.temporary()
        return f"(None if ({name} := {emission.value(expr.args[0])}) is None else not {name})"
    decisive = str(expr.connective is Connective.OR)
    names = [emission.names.temporary() for _ in expr.args]
    parts = [
        f"{decisive} if ({name} := {emission.value(arg)}) is {decisive} else "
        for name, arg in zip(names, expr.args, strict=True)
    ]
    unknown = " or ".join(f"{name} is None" for name in names)
    return f"({''.join(parts)}None if {unknown} else {expr.connective is Connective.AND})"


def logic_test(emission: Emission, expr: Logic, *, wanted: bool) -> str:
    """Source of the test for TRUE or FALSE."""
    if may_raise(expr):
        return f"({logic_value(emission, expr)} is {wanted})"
    test = emission.true if wanted else emission.false
    if expr.connective is Connective.NOT:
        return emission.false(expr.args[0]) if wanted else emission.true(expr.args[0])
    word = " and " if (expr.connective is Connective.AND) == wanted else " or "
    return "(" + word.join(test(arg) for arg in expr.args) + ")"


def null_test(emission: Emission, expr: IsNull) -> str:
    """Source of IS [NOT] NULL."""
    text = (
        emission.names.column(expr.arg.index) if isinstance(expr.arg, ColumnRef) else emission.value(expr.arg)
    )
    return f"({text} is {'not ' if expr.negated else ''}None)"


def truth_test(emission: Emission, expr: IsTruth) -> str:
    """Source of IS [NOT] TRUE, FALSE, UNKNOWN."""
    if expr.truth is None:
        return f"({emission.value(expr.arg)} is {'not ' if expr.negated else ''}None)"
    test = emission.true(expr.arg) if expr.truth else emission.false(expr.arg)
    return f"(not {test})" if expr.negated else test


def distinct_test(emission: Emission, expr: IsDistinct) -> str:
    """Source of IS [NOT] DISTINCT FROM."""
    operation = OPERATIONS[expr.equality]
    by_text = operation.equality == "eq" and is_canonical(expr.left) and is_canonical(expr.right)
    texts = [_text(emission, side) for side in (expr.left, expr.right)]
    if by_text and None not in texts:
        return f"({texts[0]} {'==' if expr.negated else '!='} {texts[1]})"
    left, right = emission.names.temporary(), emission.names.temporary()
    values = (
        f"({left} := {emission.value(expr.left)}) is None, ({right} := {emission.value(expr.right)}) is None"
    )
    equal = emission.names.applied(operation, [left, right])
    nulls, count = emission.names.bind(sum), emission.names.temporary()
    same = f"({count} == 2 if ({count} := {nulls}(({values}))) else {equal})"
    return same if expr.negated else f"(not {same})"


def _text(emission: Emission, expr: Expr) -> str | None:
    """A column's or constant's text, None being NULL."""
    column = plain_column(expr)
    if column is not None:
        return emission.names.column(column.index)
    return emission.names.bind(expr.text) if isinstance(expr, Const) else None
