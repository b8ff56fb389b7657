"""Typed tree → SQL: the only SQL of a clause that is sent, and the clause's identity.

It is made from the tree alone: every literal is quoted here and carries its type, every implicit cast is
written out, every operation is in parentheses. Parsing the result gives the same tree, and so the same SQL.
"""

from __future__ import annotations

from pgshapes.model.quoting import quote_identifier, quote_literal
from pgshapes.where.language.tree import (
    Apply,
    ArrayOf,
    Case,
    CastTo,
    Coalesce,
    Collated,
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
    Quantified,
    Subscript,
)
from pgshapes.where.pg_catalog import BOOL, PgType


def deparse(expr: Expr) -> str:
    """The expression as SQL, in parentheses unless it needs none."""
    match expr:
        case Const():
            return _constant(expr)
        case ColumnRef():
            name = quote_identifier(expr.name)
            return f"({name})::{type_name(expr.type)}" if expr.is_domain else name
        case Apply():
            return _apply(expr)
        case CastTo():
            modifier = f"({','.join(map(str, expr.modifier))})" if expr.modifier else ""
            return f"({deparse(expr.arg)})::{type_name(expr.type)}{modifier}"
        case Logic(connective=Connective.NOT):
            return f"(NOT {deparse(expr.args[0])})"
        case Logic():
            return "(" + f" {expr.connective.value} ".join(map(deparse, expr.args)) + ")"
        case IsNull():
            return f"({deparse(expr.arg)} IS {_not(expr.negated)}NULL)"
        case IsTruth():
            word = {True: "TRUE", False: "FALSE", None: "UNKNOWN"}[expr.truth]
            return f"({deparse(expr.arg)} IS {_not(expr.negated)}{word})"
        case IsDistinct():
            return f"({deparse(expr.left)} IS {_not(expr.negated)}DISTINCT FROM {deparse(expr.right)})"
        case _:
            return _deparse_more(expr)


def _deparse_more(expr: Expr) -> str:
    match expr:
        case NullIf():
            return f"NULLIF({deparse(expr.left)}, {deparse(expr.right)})"
        case Quantified():
            operator = _operator(expr.operator, expr.is_polymorphic)
            word = "ANY" if expr.is_any else "ALL"
            return f"({deparse(expr.left)} {operator} {word} ({deparse(expr.array)}))"
        case ArrayOf():
            return _array(expr)
        case Subscript():
            return f"({deparse(expr.array)})" + "".join(_subscripts(expr))
        case Coalesce():
            return f"COALESCE({_list(expr.args)})"
        case Extreme():
            return f"{'GREATEST' if expr.is_greatest else 'LEAST'}({_list(expr.args)})"
        case Case():
            whens = " ".join(f"WHEN {deparse(when)} THEN {deparse(then)}" for when, then in expr.whens)
            return f"(CASE {whens} ELSE {deparse(expr.default)} END)"
        case Collated():
            return f'({deparse(expr.arg)} COLLATE "{expr.collation.name}")'
        case _:
            raise TypeError(f"no SQL for {type(expr).__name__}")


def type_name(kind: PgType) -> str:
    """A built-in type as SQL names it, without its schema: `pg_catalog` is always searched."""
    if kind.element is not None:
        return type_name(kind.element) + "[]"
    return kind.name


def _array(expr: ArrayOf) -> str:
    """An array; one of enums has its type from its items, one of which is a column (`all_constant`)."""
    items = f"ARRAY[{_list(expr.items)}]"
    is_enum = expr.type.element is not None and expr.type.element.kind == "e"
    return items if is_enum else f"{items}::{type_name(expr.type)}"


def _constant(expr: Const) -> str:
    element = expr.type.element or expr.type
    if element.kind == "e":
        return "NULL" if expr.text is None else quote_literal(expr.text)
    if expr.type.oid == BOOL and expr.text is not None:
        return "true" if expr.text == "t" else "false"
    text = "NULL" if expr.text is None else quote_literal(expr.text)
    return f"{text}::{type_name(expr.type)}"


def _apply(expr: Apply) -> str:
    if not expr.is_operator:
        return f"pg_catalog.{quote_identifier(expr.name)}({_list(expr.args)})"
    operator = _operator(expr.name, expr.is_polymorphic)
    if len(expr.args) == 1:
        return f"({operator} {deparse(expr.args[0])})"
    return f"({deparse(expr.args[0])} {operator} {deparse(expr.args[1])})"


def _operator(name: str, is_polymorphic: bool) -> str:
    """The operator, with its schema where an extension may have one that fits the types more exactly."""
    return f"OPERATOR(pg_catalog.{name})" if is_polymorphic else name


def _subscripts(expr: Subscript) -> list[str]:
    bounds = zip(expr.lower, expr.upper, strict=True)
    shown = [
        ("" if low is None else deparse(low), "" if high is None else deparse(high)) for low, high in bounds
    ]
    return [f"[{low}:{high}]" if expr.is_slice else f"[{high}]" for low, high in shown]


def _not(negated: bool) -> str:
    return "NOT " if negated else ""


def _list(exprs: tuple[Expr, ...]) -> str:
    return ", ".join(map(deparse, exprs))
