"""Literals, columns, parameters, arrays, subscripts, AND/OR/NOT, IS tests, casts, COLLATE: syntax node →
typed node.
"""

from __future__ import annotations

from typing import Final

from pgshapes.model.relation import Column
from pgshapes.where.collation import NAMED, C, Collation
from pgshapes.where.language.coercion import coerce, settle_literal
from pgshapes.where.language.grammar import Node, location_in_clause
from pgshapes.where.language.overloads import UNKNOWN_TYPE, common_type
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.scope import Scope
from pgshapes.where.language.tree import (
    ArrayOf,
    CastTo,
    Collated,
    ColumnRef,
    Connective,
    Const,
    Expr,
    IsNull,
    IsTruth,
    Logic,
    Subscript,
    Unknown,
)
from pgshapes.where.pg_catalog import (
    BOOL,
    INT4,
    INT8,
    NAME,
    NUMERIC,
    TEXT,
    TYPES,
    TYPES_BY_NAME,
    PgType,
    array_of,
    enum_type,
)
from pgshapes.where.types.registry import type_io


def column_type(column: Column) -> PgType:
    """The column's type, the base type of a domain. A type that is neither in `pg_catalog.tsv` nor an enum
    has no operators.
    """
    oid = column.base_type_oid if column.type_kind == "d" else column.type_oid
    if oid in TYPES:
        return TYPES[oid]
    if column.type_kind == "e":
        return enum_type(column.type_oid, column.type_name)
    is_composite = any(detail.oid == oid and detail.kind == "c" for detail in column.type_details)
    return PgType(oid, column.type_name, "c" if is_composite else column.type_kind, "U", False, 0, False)


def column_collation(column: Column) -> Collation | None:
    """The collation that comparisons of the column follow, None if its type has none."""
    if column_type(column).oid == NAME:
        return C
    if column.collation is None:
        return None
    return Collation(column.collation, column.collation_provider, column.is_deterministic_collation)


def array(scope: Scope, fields: Node, at: int) -> Expr:
    """`ARRAY[…]` without a cast around it."""
    return array_of_items(scope, fields, at, None)


def array_of_items(scope: Scope, fields: Node, at: int, target: PgType | None) -> Expr:
    """`ARRAY[…]`. With `target`, the type of an explicit cast, the items are cast to its elements."""
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
    """`array[i]…` and `array[l:u]…`; if one subscript is a slice, all are."""
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


_CONNECTIVES: Final = {"AND_EXPR": Connective.AND, "OR_EXPR": Connective.OR, "NOT_EXPR": Connective.NOT}
_TRUTHS: Final = {"TRUE": True, "FALSE": False, "UNKNOWN": None}


def constant(scope: Scope, fields: Node, at: int) -> Expr:
    """`NULL`, `'…'`, `true`, `1`, `1.5`."""
    if "isnull" in fields:
        return Unknown(UNKNOWN_TYPE, at, None)
    if "sval" in fields:
        return Unknown(UNKNOWN_TYPE, at, fields["sval"].get("sval", ""))
    if "boolval" in fields:
        return Const(TYPES[BOOL], at, "t" if fields["boolval"].get("boolval") else "f")
    if "ival" in fields:
        return Const(TYPES[INT4], at, str(fields["ival"].get("ival", 0)))
    if "fval" in fields:
        return _wide_number(scope, fields["fval"]["fval"], at)
    raise Refusal("BitString values are not supported", at=at)


def _wide_number(scope: Scope, text: str, at: int) -> Expr:
    """A number that the grammar does not take for an int4: the first of int4, int8 and numeric that it fits.

    -2147483648 fits int4: the grammar negates the text of 2147483648 (`make_const()`).
    """
    digits = text.replace("_", "").lower()
    if len(digits) > 1_000:
        raise Refusal("numbers of more than 1000 digits are not supported", at=at)
    try:
        value = int(digits, 0 if digits.lstrip("-")[:2] in ("0x", "0o", "0b") else 10)
    except ValueError:
        return coerce(Unknown(UNKNOWN_TYPE, at, digits), TYPES[NUMERIC], scope.parameters)
    fitting = (oid for oid, bits in ((INT4, 31), (INT8, 63)) if -(2**bits) <= value < 2**bits)
    kind = TYPES[next(fitting, NUMERIC)]
    return coerce(Unknown(UNKNOWN_TYPE, at, str(value)), kind, scope.parameters)


def column(scope: Scope, fields: Node, at: int) -> Expr:
    """A column of the relation, by its bare name."""
    parts = [part.get("String", {}).get("sval", "*") for part in fields["fields"]]
    name = ".".join(parts)
    index = scope.relation.column_index.get(name) if len(parts) == 1 else None
    if index is None or (scope.queryable is not None and name not in scope.queryable):
        raise Refusal(f"unknown reference {name}", at=at)
    found = scope.relation.columns[index]
    kind = column_type(found)
    # A type without operations is used in IS NULL only, which needs no cast to it.
    is_domain = found.type_kind == "d" and type_io(kind) is not None
    return ColumnRef(kind, at, index, name, column_collation(found), is_domain)


def parameter(scope: Scope, fields: Node, at: int) -> Expr:
    """`$n`."""
    number = fields.get("number", 0)
    return Unknown(UNKNOWN_TYPE, at, scope.parameters.value(number, at), number)


def logic(scope: Scope, fields: Node, at: int) -> Expr:
    """AND, OR, NOT."""
    connective = _CONNECTIVES[fields["boolop"]]
    args = tuple(scope.boolean(arg, connective.value) for arg in fields["args"])
    return Logic(TYPES[BOOL], at, connective, args)


def null_test(scope: Scope, fields: Node, at: int) -> Expr:
    """`IS [NOT] NULL`."""
    arg = settle_literal(scope.expr(fields["arg"]), scope.parameters)
    if arg.type.kind == "c":
        raise Refusal("IS NULL of a composite value is not supported", at=at)
    return IsNull(TYPES[BOOL], at, arg, fields["nulltesttype"] == "IS_NOT_NULL")


def truth_test(scope: Scope, fields: Node, at: int) -> Expr:
    """`IS [NOT] TRUE | FALSE | UNKNOWN`."""
    words = fields["booltesttype"].split("_")
    arg = scope.boolean(fields["arg"], " ".join(words))
    return IsTruth(TYPES[BOOL], at, arg, _TRUTHS[words[-1]], "NOT" in words)


def type_cast(scope: Scope, fields: Node, at: int) -> Expr:
    """`arg::type`, `CAST(arg AS type)`, `type 'literal'`."""
    target = named_type(fields["typeName"])
    inner = fields["arg"]
    if "A_ArrayExpr" in inner and target.is_array:
        return array_of_items(scope, inner["A_ArrayExpr"], at, target)
    expr = scope.cast(scope.expr(inner), target, at)
    modifier = _length(target, fields["typeName"])
    return CastTo(target, at, expr, "length", modifier) if modifier else expr


def named_type(fields: Node) -> PgType:
    """The type of a `TypeName` node. Raises Refusal for types that a clause cannot compute with."""
    names = [part["String"]["sval"] for part in fields["names"]]
    at = location_in_clause(fields.get("location", 0))
    shown = names[-1] + "[]" * bool(fields.get("arrayBounds"))
    found = TYPES_BY_NAME.get(names[-1]) if len(names) == 1 or names[0] == "pg_catalog" else None
    if found is not None and fields.get("arrayBounds"):
        found = None if found.is_array else array_of(found)
    if found is None or type_io(found) is None or fields.get("setof"):
        raise Refusal(f"unsupported type {shown}", at=at)
    return found


def _length(target: PgType, fields: Node) -> tuple[int, ...]:
    """The modifier of a type, () without one: `(10, 2)` of numeric, `(5)` of varchar and char. Raises
    Refusal.
    """
    at = location_in_clause(fields.get("location", 0))
    given = tuple(one.get("A_Const", {}).get("ival", {}).get("ival", 0) for one in fields.get("typmods", []))
    if not given:
        return ()
    io = type_io(target)
    if io is None or io.modifier is None:
        raise Refusal(f"type modifiers are not supported: {target.name}", at=at)
    if not io.modifier.is_valid(given):
        raise Refusal(f"invalid type modifier for type {target.name}", at=at)
    return (given[0], *(given[1:] or (0,))) if target.oid == NUMERIC else given


def collate(scope: Scope, fields: Node, at: int) -> Expr:
    """`arg COLLATE "C"`."""
    arg = scope.expr(fields["arg"])
    if isinstance(arg, Unknown):
        arg = coerce(arg, TYPES[TEXT], scope.parameters)
    names = [part["String"]["sval"] for part in fields["collname"]]
    collation = NAMED.get(names[-1]) if len(names) == 1 or names[0] == "pg_catalog" else None
    if collation is None:
        raise Refusal(f'collation "{".".join(names)}" is not supported, only "C" and "POSIX" are', at=at)
    if not arg.type.is_collatable:
        raise Refusal(f"collations are not supported by type {arg.type.name}", at=at)
    return Collated(arg.type, at, arg, collation)
