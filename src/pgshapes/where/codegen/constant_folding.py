"""Constant subtrees → constants, as the server does at plan time (`eval_const_expressions()`).

It decides whether an operation that raises an error is reached, and gives the index plan comparisons with
constants. It is no further optimisation.
"""

from __future__ import annotations

from dataclasses import replace

from pgshapes.where.codegen.compiled import evaluate_constant
from pgshapes.where.language.collation_rules import CollationRules
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.tree import (
    Apply,
    ArrayOf,
    Case,
    CastTo,
    Coalesce,
    Connective,
    Const,
    Expr,
    Logic,
    NullIf,
    Unknown,
    map_children,
)
from pgshapes.where.pg_catalog import BOOL, TYPES
from pgshapes.where.types.arrays import vector, write_array
from pgshapes.where.types.operation import RowError
from pgshapes.where.types.registry import type_io


class Folding:
    """The folding of one clause."""

    def __init__(self, rules: CollationRules) -> None:
        self._rules = rules

    def fold(self, expr: Expr) -> Expr:
        """The expression with its constant parts computed. Raises Refusal where computing raises an error."""
        match expr:
            case Const() | Unknown():
                return expr
            case Logic():
                return self._logic(expr)
            case Coalesce():
                return self._coalesce(expr)
            case Case():
                return self._case(expr)
        folded = map_children(expr, self.fold)
        if isinstance(folded, Apply | CastTo) and _is_null_call(folded):
            return Const(folded.type, folded.at, None)
        if isinstance(folded, NullIf) and any(map(_is_null, folded.children)):
            return folded.left  # NULL equals nothing
        if folded.children and all(isinstance(child, Const) for child in folded.children):
            return self._evaluate(folded)
        return folded

    def _logic(self, expr: Logic) -> Expr:
        if expr.connective is Connective.NOT:
            arg = self.fold(expr.args[0])
            if not isinstance(arg, Const):
                return replace(expr, args=(arg,))
            return _truth(None if arg.text is None else arg.text == "f", expr.at)
        decisive = "f" if expr.connective is Connective.AND else "t"
        kept: list[Expr] = []
        for arg in map(self.fold, expr.args):
            if isinstance(arg, Const) and arg.text == decisive:
                return arg
            if not isinstance(arg, Const) or arg.text is None:
                kept.append(arg)
        if not kept:
            return _truth(decisive == "f", expr.at)
        return kept[0] if len(kept) == 1 else replace(expr, args=tuple(kept))

    def _coalesce(self, expr: Coalesce) -> Expr:
        kept: list[Expr] = []
        for arg in map(self.fold, expr.args):
            if isinstance(arg, Const) and arg.text is None:
                continue
            kept.append(arg)
            if isinstance(arg, Const):
                break
        if not kept:
            return Const(expr.type, expr.at, None)
        return kept[0] if len(kept) == 1 else replace(expr, args=tuple(kept))

    def _case(self, expr: Case) -> Expr:
        whens: list[tuple[Expr, Expr]] = []
        for when, then in expr.whens:
            condition = self.fold(when)
            if not isinstance(condition, Const):
                whens.append((condition, self.fold(then)))
            elif condition.text == "t":
                default = self.fold(then)
                break
        else:
            default = self.fold(expr.default)
        return replace(expr, whens=tuple(whens), default=default) if whens else default

    def _evaluate(self, expr: Expr) -> Expr:
        io = type_io(expr.type)
        if io is None:
            return expr
        texts = _item_texts(expr)
        if texts is not None:
            return Const(expr.type, expr.at, write_array(vector(texts), str))
        try:
            value = evaluate_constant(expr, self._rules)
        except (RowError, RecursionError) as error:
            raise Refusal(f"Failed to apply function to constant arguments: {error}", at=expr.at) from None
        return Const(expr.type, expr.at, None if value is None else io.write(value))


def _item_texts(expr: Expr) -> tuple[str | None, ...] | None:
    """The items' texts of an `ARRAY[…]` whose items are constants and not arrays, else None."""
    if not isinstance(expr, ArrayOf):
        return None
    texts = [item.text for item in expr.items if isinstance(item, Const) and not item.type.is_array]
    return tuple(texts) if len(texts) == len(expr.items) else None


def _is_null_call(expr: Apply | CastTo) -> bool:
    is_strict = isinstance(expr, CastTo) or expr.is_strict
    return is_strict and any(map(_is_null, expr.children))


def _is_null(expr: Expr) -> bool:
    return isinstance(expr, Const) and expr.text is None


def _truth(value: bool | None, at: int) -> Const:
    return Const(TYPES[BOOL], at, None if value is None else "t" if value else "f")
