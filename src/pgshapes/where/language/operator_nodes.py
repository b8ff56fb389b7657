"""`A_Expr`, all forms of operators: plain, IN, BETWEEN, LIKE, ANY/ALL, IS DISTINCT FROM, NULLIF.

IN and BETWEEN are expanded as in the server (`transformAExprIn()`, `transformAExprBetween()`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pgshapes.where.language.coercion import coerce, settle_literal
from pgshapes.where.language.grammar import Node
from pgshapes.where.language.overloads import (
    UNKNOWN_TYPE,
    actual_types,
    common_type,
    find_operator,
    result_type,
)
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.scope import Scope
from pgshapes.where.language.tree import (
    Apply,
    ArrayOf,
    ColumnRef,
    Connective,
    Const,
    Expr,
    IsDistinct,
    IsNull,
    Logic,
    NullIf,
    Quantified,
    Unknown,
    walk,
)
from pgshapes.where.pg_catalog import BOOL, OPERATORS, TEXT, TYPES, Operator, PgType, array_of
from pgshapes.where.types.arrays import vector, write_array
from pgshapes.where.types.registry import OPERATIONS, type_io

_BOOL: Final = TYPES[BOOL]


def operator_expression(scope: Scope, fields: Node, at: int) -> Expr:
    """Any `A_Expr`."""
    reader = _KINDS.get(fields["kind"])
    if reader is None:
        kind = fields["kind"].removeprefix("AEXPR_")
        raise Refusal(f"expression {kind} is not currently supported", at=at)
    return reader(scope, fields, at)


def apply_operator(scope: Scope, name: str, left: Expr | None, right: Expr, at: int) -> Apply:
    """`left name right`, with both operands coerced to the operator's types. Raises Refusal."""
    operands: tuple[Expr, ...] = (right,) if left is None else (left, right)
    if name == "||":
        operands = _with_text_operands(scope, operands, at)
    operator, actual, result = _resolve(name, [operand.type for operand in operands], at)
    pairs = zip(operands, actual, strict=True)
    args = tuple(coerce(operand, wanted, scope.parameters) for operand, wanted in pairs)
    polymorphic = actual != [TYPES.get(oid) for oid in operator.arguments]
    return Apply(result, at, name, operator.signature, args, True, operator.is_strict, polymorphic)


def _with_text_operands(scope: Scope, operands: tuple[Expr, ...], at: int) -> tuple[Expr, ...]:
    """The operands, both as text for `text || anynonarray` and its commutator, which are defined so in the
    server.
    """
    if len(operands) != 2:
        return operands
    operator = find_operator("||", operands[0].type, operands[1].type)
    place = _TEXT_JOINS.get(operator.signature) if operator is not None else None
    if place is None:
        return operands
    texts = list(operands)
    texts[place] = scope.cast(operands[place], TYPES[TEXT], at)
    return tuple(texts)


_TEXT_JOINS: Final = {"text || anynonarray": 1, "anynonarray || text": 0}


def _resolve(name: str, inputs: Sequence[PgType], at: int) -> tuple[Operator, list[PgType], PgType]:
    """The operator, the actual types of its operands and of its result. Raises Refusal."""
    if name not in OPERATORS:
        raise Refusal(f"unknown {'binary' if len(inputs) == 2 else 'unary'} operator {name}", at=at)
    operator = find_operator(name, inputs[0] if len(inputs) == 2 else None, inputs[-1])
    if operator is None:
        raise Refusal("Could not select an operator overload", at=at)
    actual = actual_types(operator.arguments, inputs)
    result = result_type(operator.result, operator.arguments, inputs)
    if actual is None or result is None:
        raise Refusal("Could not select an operator overload", at=at)
    if operator.signature not in OPERATIONS or any(type_io(one) is None for one in actual):
        shown = ", ".join(one.name for one in actual)
        raise Refusal(f"operator {name} ({shown}) is not supported in this context", at=at)
    return operator, actual, result


def _name(fields: Node, at: int) -> str:
    parts = [part["String"]["sval"] for part in fields["name"]]
    if len(parts) > 1 and parts[0] != "pg_catalog":
        raise Refusal(f"operator {'.'.join(parts)} is not supported in this context", at=at)
    return str(parts[-1])


def _plain(scope: Scope, fields: Node, at: int) -> Expr:
    for side in ("lexpr", "rexpr"):
        if "RowExpr" in fields.get(side, {}):
            raise Refusal("row comparisons are not supported in this context", at=at)
    left = scope.expr(fields["lexpr"]) if "lexpr" in fields else None
    return apply_operator(scope, _name(fields, at), left, scope.expr(fields["rexpr"]), at)


def _is_distinct(scope: Scope, fields: Node, at: int) -> Expr:
    negated = fields["kind"] == "AEXPR_NOT_DISTINCT"
    left, right = scope.expr(fields["lexpr"]), scope.expr(fields["rexpr"])
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Unknown) and one.text is None:
            return IsNull(_BOOL, at, settle_literal(other, scope.parameters), not negated)
    equal = apply_operator(scope, "=", left, right, at)
    return IsDistinct(_BOOL, at, equal.signature, equal.args[0], equal.args[1], negated)


def _null_if(scope: Scope, fields: Node, at: int) -> Expr:
    equal = apply_operator(scope, "=", scope.expr(fields["lexpr"]), scope.expr(fields["rexpr"]), at)
    left, right = equal.args
    return NullIf(left.type, at, equal.signature, left, right)


def _any_or_all(scope: Scope, fields: Node, at: int) -> Expr:
    left, right = scope.expr(fields["lexpr"]), scope.expr(fields["rexpr"])
    is_any = fields["kind"] == "AEXPR_OP_ANY"
    if not isinstance(right, Unknown) and right.type.element is None:
        raise Refusal(f"argument of {'ANY' if is_any else 'ALL'} must be an array", at=at)
    return _quantified(scope, _name(fields, at), left, right, is_any, at)


def _quantified(scope: Scope, name: str, left: Expr, array: Expr, is_any: bool, at: int) -> Quantified:
    element = array.type.element or UNKNOWN_TYPE
    operator, actual, result = _resolve(name, (left.type, element), at)
    if result.oid != BOOL:
        raise Refusal("ANY/ALL requires operator that returns bool", at=at)
    wanted = actual[1]
    if wanted.is_array:
        raise Refusal("ANY/ALL over arrays of arrays is not supported", at=at)
    if type_io(array_of(wanted)) is None:
        raise Refusal(f"unsupported type {wanted.name}[]", at=at)
    polymorphic = actual != [TYPES.get(oid) for oid in operator.arguments]
    return Quantified(
        _BOOL,
        at,
        name,
        operator.signature,
        coerce(left, actual[0], scope.parameters),
        coerce(array, array_of(wanted), scope.parameters),
        is_any,
        polymorphic,
    )


def _in_list(scope: Scope, fields: Node, at: int) -> Expr:
    name = _name(fields, at)
    is_in = name == "="
    items_node = fields["rexpr"].get("List", {}).get("items", [])
    if "RowExpr" in fields["lexpr"] or any("RowExpr" in item for item in items_node):
        raise Refusal("row comparisons are not supported in this context", at=at)
    left = scope.expr(fields["lexpr"])
    items = [scope.expr(item) for item in items_node]
    fixed, moving = _split_by_columns(items)
    kind = common_type([left.type, *(item.type for item in fixed)]) if len(fixed) > 1 else None
    parts: list[Expr] = []
    if kind is not None and not kind.is_array:
        coerced = [coerce(item, kind, scope.parameters) for item in fixed]
        if type_io(array_of(kind)) is not None:
            parts.append(_quantified(scope, name, left, _array(coerced, kind, at), is_in, at))
            items = moving
        else:
            items = coerced + moving
    parts += [apply_operator(scope, name, left, item, at) for item in items]
    if len(parts) == 1:
        return parts[0]
    return Logic(_BOOL, at, Connective.OR if is_in else Connective.AND, tuple(parts))


def _split_by_columns(items: Sequence[Expr]) -> tuple[list[Expr], list[Expr]]:
    """The items that read no column, and those that do."""
    fixed: list[Expr] = []
    moving: list[Expr] = []
    for item in items:
        reads = any(isinstance(node, ColumnRef) for node in walk(item))
        (moving if reads else fixed).append(item)
    return fixed, moving


def _array(items: Sequence[Expr], kind: PgType, at: int) -> Expr:
    """The items as one array, which is a constant if all items are: enums can then be written without their
    type.
    """
    texts = [item.text for item in items if isinstance(item, Const)]
    if len(texts) < len(items):
        return ArrayOf(array_of(kind), at, tuple(items))
    return Const(array_of(kind), at, write_array(vector(tuple(texts)), str))


def _between(scope: Scope, fields: Node, at: int) -> Expr:
    low_node, high_node = fields["rexpr"]["List"]["items"]

    def compare(name: str, bound: Node) -> Expr:
        return apply_operator(scope, name, scope.expr(fields["lexpr"]), scope.expr(bound), at)

    def inside(low: Node, high: Node) -> Expr:
        return Logic(_BOOL, at, Connective.AND, (compare(">=", low), compare("<=", high)))

    def outside(low: Node, high: Node) -> Expr:
        return Logic(_BOOL, at, Connective.OR, (compare("<", low), compare(">", high)))

    negated = "NOT" in fields["kind"]
    side = outside if negated else inside
    if not fields["kind"].endswith("_SYM"):
        return side(low_node, high_node)
    both = (side(low_node, high_node), side(high_node, low_node))
    return Logic(_BOOL, at, Connective.AND if negated else Connective.OR, both)


_KINDS: Final[dict[str, Callable[[Scope, Node, int], Expr]]] = {
    "AEXPR_OP": _plain,
    "AEXPR_LIKE": _plain,
    "AEXPR_ILIKE": _plain,
    "AEXPR_DISTINCT": _is_distinct,
    "AEXPR_NOT_DISTINCT": _is_distinct,
    "AEXPR_NULLIF": _null_if,
    "AEXPR_OP_ANY": _any_or_all,
    "AEXPR_OP_ALL": _any_or_all,
    "AEXPR_IN": _in_list,
    "AEXPR_BETWEEN": _between,
    "AEXPR_NOT_BETWEEN": _between,
    "AEXPR_BETWEEN_SYM": _between,
    "AEXPR_NOT_BETWEEN_SYM": _between,
}
