"""Syntax tree → typed tree: the allow-list of node kinds, and the limits on a clause.

A node kind that is not in `_READERS` is refused by name. Types are resolved bottom-up by Postgres's rules
(`overloads.py`, `coercion.py`). Pure; one `Analysis` for each clause.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pgshapes.model.relation import Relation
from pgshapes.where.language import call_nodes, operator_nodes, plain_nodes
from pgshapes.where.language.coercion import cast_function, coerce, is_castable, known_type
from pgshapes.where.language.grammar import Node, location_in_clause
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.scope import NodeReader, Parameters
from pgshapes.where.language.tree import CastTo, Expr, Unknown, map_children, walk
from pgshapes.where.pg_catalog import BOOL, TYPES, PgType

MAX_DEPTH: Final = 40
"""Levels of nesting. Python's parser accepts the source generated for a clause of this depth."""
MAX_WEIGHT: Final = 10_000
"""A literal weighs 1, any other node 6. A clause of this weight is compiled in less than 0.1 s."""
_WEIGHTS: Final = {"A_Const": 1, "ParamRef": 1}
_WEIGHT: Final = 6

_READERS: Final[dict[str, NodeReader]] = {
    "A_Const": plain_nodes.constant,
    "ColumnRef": plain_nodes.column,
    "ParamRef": plain_nodes.parameter,
    "BoolExpr": plain_nodes.logic,
    "NullTest": plain_nodes.null_test,
    "BooleanTest": plain_nodes.truth_test,
    "TypeCast": plain_nodes.type_cast,
    "CollateClause": plain_nodes.collate,
    "A_Expr": operator_nodes.operator_expression,
    "A_ArrayExpr": plain_nodes.array,
    "A_Indirection": plain_nodes.subscript,
    "FuncCall": call_nodes.function_call,
    "CoalesceExpr": call_nodes.coalesce,
    "MinMaxExpr": call_nodes.extreme,
    "CaseExpr": call_nodes.case,
}

_REASONS: Final = {
    "SubLink": "subqueries are not supported yet",
    "RowExpr": "row comparisons are not supported in this context",
    "GroupingFunc": "aggregation is not supported in this context",
    "SQLValueFunction": "only immutable functions are supported in this context",
}


class Analysis:
    """The analysis of one clause over one relation; the `Scope` of its nodes."""

    def __init__(self, relation: Relation, parameters: Parameters, queryable: Collection[str] | None) -> None:
        self.relation = relation
        self.parameters = parameters
        self.queryable = queryable
        self._depth = 0
        self._weight = 0

    def clause(self, node: Node) -> Expr:
        """The typed tree of a whole clause. Raises Refusal."""
        expr = self.expr(node)
        if isinstance(expr, Unknown):
            expr = coerce(expr, TYPES[BOOL], self.parameters)
        if expr.type.oid != BOOL:
            raise Refusal("WHERE clause must return a boolean")
        return self._with_known_types(expr) if any(isinstance(node, Unknown) for node in walk(expr)) else expr

    def _with_known_types(self, expr: Expr) -> Expr:
        """The tree with the types of its parameters: `$1 IS NULL` takes the type of another use of `$1`,
        which may come later.
        """
        if not isinstance(expr, Unknown):
            return map_children(expr, self._with_known_types)
        settled = known_type(expr, self.parameters)
        if isinstance(settled, Unknown):
            raise Refusal(f"could not determine data type of parameter ${expr.parameter}", at=expr.at)
        return settled

    def expr(self, node: Node) -> Expr:
        """The typed tree of one node. Raises Refusal."""
        ((kind, fields),) = node.items()
        at = location_in_clause(fields.get("location", 0))
        reader = _READERS.get(kind)
        if reader is None:
            raise Refusal(_REASONS.get(kind, f"{kind} is not supported in this context"), at=at)
        self._depth += 1
        self._weight += _WEIGHTS.get(kind, _WEIGHT)
        if self._depth > MAX_DEPTH:
            raise Refusal(f"WHERE clause is nested more than {MAX_DEPTH} levels deep", at=at)
        if self._weight > MAX_WEIGHT:
            raise Refusal("WHERE clause has too many parts")
        expr = known_type(reader(self, fields, at), self.parameters)
        self._depth -= 1
        return expr

    def boolean(self, node: Node, context: str) -> Expr:
        """The typed tree of a node that must be boolean; `context` names the place in messages. Raises
        Refusal.
        """
        expr = self.expr(node)
        if isinstance(expr, Unknown):
            return coerce(expr, TYPES[BOOL], self.parameters)
        if expr.type.oid != BOOL:
            raise Refusal(f"argument of {context} must be bool, not {expr.type.name}", at=expr.at)
        return expr

    def cast(self, expr: Expr, target: PgType, at: int) -> Expr:
        """The expression with a cast that the client wrote. Raises Refusal."""
        if isinstance(expr, Unknown) or expr.type == target:
            return coerce(expr, target, self.parameters, explicit=True)
        function = cast_function(expr.type, target, explicit=True)
        if function is None or not is_castable(expr, target, function):
            raise Refusal(f"unknown cast from type {expr.type.name} to type {target.name}", at=at)
        return CastTo(target, at, expr, function)
