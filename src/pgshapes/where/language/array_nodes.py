"""`ARRAY[…]`, `array[i]`, `array[l:u]`: syntax node → typed node (`transformArrayExpr()`)."""

from __future__ import annotations

from pgshapes.where.language.coercion import coerce
from pgshapes.where.language.grammar import Node
from pgshapes.where.language.overloads import common_type
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.scope import Scope
from pgshapes.where.language.tree import ArrayOf, Expr, Subscript, Unknown
from pgshapes.where.pg_catalog import INT4, TYPES, PgType, array_of
from pgshapes.where.types.type_io import type_io


def array(scope: Scope, fields: Node, at: int) -> Expr:
    """`ARRAY[…]` without a cast around it."""
    return array_of_items(scope, fields, at, None)


def array_of_items(scope: Scope, fields: Node, at: int, target: PgType | None) -> Expr:
    """`ARRAY[…]`; with `target`, a written cast, its items are cast to the target's elements."""
    nodes = fields.get("elements", [])
    if not nodes and target is None:
        raise Refusal("cannot determine type of empty array", at=at)
    items = [_item(scope, node, target) for node in nodes]
    if target is None:
        target = _type_of(items, at)
    is_nested = any(item.type.is_array for item in items)
    wanted = target if is_nested else target.element
    if wanted is None:
        raise Refusal("ARRAY of arrays is not supported here", at=at)
    return ArrayOf(target, at, tuple(_coerced(scope, item, wanted, at) for item in items))


def _item(scope: Scope, node: Node, target: PgType | None) -> Expr:
    if "A_ArrayExpr" in node:
        return array_of_items(scope, node["A_ArrayExpr"], 0, target)
    return scope.expr(node)


def _type_of(items: list[Expr], at: int) -> PgType:
    found = common_type([item.type for item in items])
    if found is None:
        first, other = items[0].type, next(item.type for item in items if item.type != items[0].type)
        raise Refusal(f"ARRAY types {first.name} and {other.name} cannot be matched", at=at)
    found = found if found.is_array else array_of(found)
    if type_io(found) is None:
        raise Refusal(f"unsupported type {found.name}", at=at)
    return found


def _coerced(scope: Scope, item: Expr, wanted: PgType, at: int) -> Expr:
    if isinstance(item, Unknown):
        return coerce(item, wanted, scope.parameters)
    return scope.cast(item, wanted, at)


def subscript(scope: Scope, fields: Node, at: int) -> Expr:
    """`array[i]…` and `array[l:u]…`; with one slice all subscripts are slices."""
    arg = scope.expr(fields["arg"])
    indices = [part.get("A_Indices") for part in fields["indirection"]]
    if None in indices:
        raise Refusal("only array subscripts are supported after an expression", at=arg.at)
    if arg.type.element is None or type_io(arg.type) is None:
        raise Refusal(f"cannot subscript type {arg.type.name} because it is not an array", at=arg.at)
    if len(indices) > 6:
        raise Refusal("number of array dimensions exceeds the maximum allowed (6)", at=arg.at)
    is_slice = any(index.get("is_slice") for index in indices)
    one = coerce(Unknown(TYPES[705], arg.at, "1"), TYPES[INT4], scope.parameters)
    lower: list[Expr | None] = []
    upper: list[Expr | None] = []
    for index in indices:
        low, high = (_bound(scope, index.get(key)) for key in ("lidx", "uidx"))
        lower.append(one if is_slice and not index.get("is_slice") else low)
        upper.append(high)
    kind = arg.type if is_slice else arg.type.element
    return Subscript(kind, arg.at, arg, tuple(lower), tuple(upper), is_slice)


def _bound(scope: Scope, node: Node | None) -> Expr | None:
    if node is None:
        return None
    expr = scope.expr(node)
    if isinstance(expr, Unknown) or expr.type.oid == INT4:
        return coerce(expr, TYPES[INT4], scope.parameters)
    return scope.cast(expr, TYPES[INT4], expr.at)
