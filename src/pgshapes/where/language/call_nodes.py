"""Function calls, COALESCE, GREATEST, LEAST and CASE: syntax node → typed node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pgshapes.where.language.coercion import coerce
from pgshapes.where.language.grammar import Node
from pgshapes.where.language.operator_nodes import apply_operator
from pgshapes.where.language.overloads import (
    UNKNOWN_TYPE,
    actual_types,
    common_type,
    find_function,
    result_type,
)
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.scope import Scope
from pgshapes.where.language.tree import Apply, Case, Coalesce, Const, Expr, Extreme, Unknown
from pgshapes.where.pg_catalog import ANY, FUNCTIONS, TEXT, TYPES, PgType
from pgshapes.where.types.registry import OPERATIONS, type_io
from pgshapes.where.types.timestamps import is_fixed_zone

_PLAIN_CALL: Final = {"funcname", "args", "funcformat", "location"}
_AGGREGATE_MARKS: Final = {"agg_order", "agg_filter", "agg_within_group", "agg_star", "agg_distinct"}


def function_call(scope: Scope, fields: Node, at: int) -> Expr:
    """A function call, or one of the forms that the grammar turns into one: AT TIME ZONE, TRIM, POSITION,
    LIKE … ESCAPE.
    """
    names = [part["String"]["sval"] for part in fields["funcname"]]
    name, nodes = names[-1], fields.get("args", [])
    if "over" in fields:
        raise Refusal("window functions are not supported in this context", at=at)
    if set(fields) & _AGGREGATE_MARKS:
        raise Refusal("aggregation is not supported in this context", at=at)
    if fields.get("func_variadic"):
        raise Refusal("explicit VARIADIC function calls are not currently supported", at=at)
    is_known = name in FUNCTIONS and (len(names) == 1 or names[0] == "pg_catalog")
    if not is_known or set(fields) - _PLAIN_CALL or any("NamedArgExpr" in node for node in nodes):
        raise Refusal(f"unknown or unsupported function {'.'.join(names)}/{len(nodes)}", at=at)
    return _apply(scope, name, [scope.expr(node) for node in nodes], at)


def _apply(scope: Scope, name: str, operands: Sequence[Expr], at: int) -> Expr:
    inputs = [operand.type for operand in operands]
    function = find_function(name, inputs)
    actual = None if function is None else actual_types(function.arguments, inputs)
    result = None if function is None else result_type(function.result, function.arguments, inputs)
    if function is None or actual is None or result is None:
        shown = ", ".join(one.name for one in inputs)
        raise Refusal(f"Could not select a function overload for {name}({shown})", at=at)
    if any(one == UNKNOWN_TYPE and oid != ANY for one, oid in zip(actual, function.arguments, strict=True)):
        raise Refusal(f"could not determine the type of an argument of {name}", at=at)
    wanted = [TYPES[TEXT] if one == UNKNOWN_TYPE else one for one in actual]
    if name == "concat" and any(one.category != "S" for one in wanted):
        raise Refusal("concat is only supported for text; cast its arguments", at=at)
    for operand in operands if name == "concat" else ():
        if isinstance(operand, Unknown) and operand.parameter is not None:
            raise Refusal(f"could not determine data type of parameter ${operand.parameter}", at=operand.at)
    if function.signature not in OPERATIONS or any(type_io(one) is None for one in wanted):
        raise Refusal(f"function {name}({', '.join(one.name for one in wanted)}) is not supported", at=at)
    if name == "timezone":
        _check_zone(operands[0], at)
    pairs = zip(operands, wanted, strict=True)
    args = tuple(coerce(operand, one, scope.parameters) for operand, one in pairs)
    return Apply(result, at, name, function.signature, args, False, function.is_strict)


def _check_zone(zone: Expr, at: int) -> None:
    """Raises Refusal for a zone with daylight saving rules, which depend on the server's time zone tables."""
    text = zone.text if isinstance(zone, Const | Unknown) else None
    if text is None or not is_fixed_zone(text):
        raise Refusal("AT TIME ZONE is only supported for UTC and fixed offsets", at=at)


def coalesce(scope: Scope, fields: Node, at: int) -> Expr:
    """`COALESCE(…)`."""
    args = _of_common_type(scope, [scope.expr(node) for node in fields["args"]], "COALESCE", at)
    return Coalesce(args[0].type, at, args)


def extreme(scope: Scope, fields: Node, at: int) -> Expr:
    """`GREATEST(…)`, `LEAST(…)`: the type must have a `<`."""
    is_greatest = fields["op"] == "IS_GREATEST"
    args = _of_common_type(scope, [scope.expr(node) for node in fields["args"]], "GREATEST", at)
    apply_operator(scope, "<", args[0], args[-1], at)
    return Extreme(args[0].type, at, args, is_greatest)


def case(scope: Scope, fields: Node, at: int) -> Expr:
    """Both forms of CASE; the simple form becomes comparisons with `=`."""
    conditions, results = [], []
    for when in fields["args"]:
        branch = when["CaseWhen"]
        conditions.append(_condition(scope, fields.get("arg"), branch["expr"], at))
        results.append(scope.expr(branch["result"]))
    default = scope.expr(fields["defresult"]) if "defresult" in fields else Unknown(UNKNOWN_TYPE, at, None)
    first, *rest = _of_common_type(scope, [default, *results], "CASE", at)
    return Case(first.type, at, tuple(zip(conditions, rest, strict=True)), first)


def _condition(scope: Scope, subject: Node | None, node: Node, at: int) -> Expr:
    if subject is None:
        return scope.boolean(node, "CASE/WHEN")
    left = scope.expr(subject)
    if isinstance(left, Unknown):
        left = coerce(left, TYPES[TEXT], scope.parameters)
    return apply_operator(scope, "=", left, scope.expr(node), at)


def _of_common_type(scope: Scope, exprs: list[Expr], context: str, at: int) -> tuple[Expr, ...]:
    """The expressions, coerced to their common type. Raises Refusal."""
    kind: PgType | None = common_type([expr.type for expr in exprs])
    if kind is None:
        other = next(expr.type for expr in exprs if expr.type != exprs[0].type)
        raise Refusal(f"{context} types {exprs[0].type.name} and {other.name} cannot be matched", at=at)
    if type_io(kind) is None:
        raise Refusal(f"unsupported type {kind.name}", at=at)
    return tuple(coerce(expr, kind, scope.parameters) for expr in exprs)
