"""Casts, explicit or implicit, on the typed tree (manual: Type Conversion, Value Storage and Type Casts).

A literal becomes a constant of the target type at once, as in the server, so a bad literal is refused when
the clause is prepared and not at the first row. Transcribes `coerce_type()` and `find_coercion_pathway()`.
"""

from __future__ import annotations

from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.scope import Parameters
from pgshapes.where.language.tree import CastTo, ColumnRef, Const, Expr, Unknown
from pgshapes.where.pg_catalog import CASTS, FLOAT4, FLOAT8, TEXT, TYPES, UNKNOWN, PgType
from pgshapes.where.types.operation import BadLiteral
from pgshapes.where.types.registry import OPERATIONS, cast_signature, type_io

_STRING = "S"


def coerce(expr: Expr, target: PgType, parameters: Parameters, *, explicit: bool = False) -> Expr:
    """The expression coerced to `target`. Raises Refusal without such a cast, and for a bad literal."""
    if isinstance(expr, Unknown):
        return _fix(expr, target, parameters)
    if expr.type == target:
        return expr
    function = cast_function(expr.type, target, explicit=explicit)
    if function is None:
        raise Refusal(f"unknown cast from type {expr.type.name} to type {target.name}", at=expr.at)
    return CastTo(target, expr.at, expr, function)


def cast_function(source: PgType, target: PgType, *, explicit: bool) -> str | None:
    """The function of the cast, as in `CastTo`: `relabel`, `io`, `array:…` or `<source>::<target>`; None
    when there is no cast.
    """
    path = CASTS.get((source.oid, target.oid))
    if path is not None:
        if path.context != "i" and not explicit:
            return None
        return {"b": "relabel", "i": "io"}.get(path.method, f"{source.name}::{target.name}")
    if source.element is not None and target.element is not None:
        function = cast_function(source.element, target.element, explicit=explicit)
        return None if function is None else f"array:{function}"
    if explicit and _STRING in (source.category, target.category):
        return "io"
    return None


def read_literal(text: str, target: PgType, at: int, *, field: str = "where") -> str:
    """A literal's value as the server would write it. Raises Refusal."""
    io = type_io(target)
    if io is None:
        raise Refusal(f"unsupported type {target.name}", at=at)
    try:
        return io.write(io.read(text))
    except BadLiteral as bad:
        reason = bad.reason or f"invalid syntax for type {target.name}: {text[:200]}"
        raise Refusal(reason, at=at, field=field) from None


def settle_literal(expr: Expr, parameters: Parameters) -> Expr:
    """A literal of unknown type as text. A parameter stays unknown, since a later use may give it a type."""
    if isinstance(expr, Unknown) and expr.parameter is None:
        return _fix(expr, TYPES[TEXT], parameters)
    return expr


def known_type(expr: Expr, parameters: Parameters) -> Expr:
    """A parameter with the type that another use has given it. All other expressions stay as they are."""
    if isinstance(expr, Unknown) and expr.parameter is not None:
        found = parameters.types.get(expr.parameter)
        if found is not None:
            return _fix(expr, found, parameters)
    return expr


def _fix(expr: Unknown, target: PgType, parameters: Parameters) -> Const:
    if target.oid == UNKNOWN:
        target = TYPES[TEXT]
    if expr.parameter is not None:
        parameters.decide(expr.parameter, target, expr.at)
    if expr.text is None:
        return Const(target, expr.at, None)
    return Const(target, expr.at, read_literal(expr.text, target, expr.at))


def is_castable(expr: Expr, target: PgType, function: str) -> bool:
    """Whether a cast of this expression can be evaluated exactly."""
    if function.startswith("array:"):
        return _is_item_castable(expr.type, target, function.removeprefix("array:"))
    if function == "io" and target.category == "S":
        return _is_writable(expr)
    return function == "relabel" or cast_signature(function, target) in OPERATIONS


def _is_item_castable(source: PgType, target: PgType, function: str) -> bool:
    if source.element is None or target.element is None or type_io(source) is None or type_io(target) is None:
        return False
    if function == "io" and target.element.category == "S":
        return source.element.oid not in (FLOAT4, FLOAT8)
    return function == "relabel" or cast_signature(function, target.element) in OPERATIONS


def _is_writable(expr: Expr) -> bool:
    """Whether the text of the expression's value is known. That of a column is: rows hold texts."""
    if isinstance(expr, ColumnRef):
        return expr.type.kind == "e" or expr.type.oid in TYPES
    if type_io(expr.type) is None:
        return False
    element = expr.type.element or expr.type
    return element.oid not in (FLOAT4, FLOAT8)
