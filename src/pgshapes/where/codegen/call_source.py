"""Source of operators, functions and casts. LIKE and ILIKE with a constant pattern become the cheapest
equivalent test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from pgshapes.where.codegen.emission import Emission, Operand, is_canonical, is_match, may_raise
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.tree import Apply, CastTo, ColumnRef, Const, Expr, plain_column
from pgshapes.where.pg_catalog import TEXT, PgType
from pgshapes.where.types.arrays import Array
from pgshapes.where.types.operation import CaseMapping
from pgshapes.where.types.patterns import compile_pattern, not_like
from pgshapes.where.types.registry import OPERATIONS, cast_signature, type_io


def case_mapping(emission: Emission, expr: Apply) -> CaseMapping | None:
    """What the call applies to its operands, None if it is sensitive to case. Raises Refusal."""
    mapping_of = OPERATIONS[expr.signature].case_mapping
    if mapping_of is None:
        return None
    collation = emission.collation(expr)
    mapping = None if collation is None else mapping_of(collation, emission.server_version)
    if mapping is None:
        raise Refusal("the case rules of the collation are not known", at=expr.at)
    return mapping


def match_source(emission: Emission, expr: Apply, subject: str, pattern: str) -> str:
    """Source of the match of `subject`, source of a value that is not NULL; `pattern` is source of the
    pattern.
    """
    call = OPERATIONS[expr.signature].call
    assert call is not None
    mapping = case_mapping(emission, expr)
    if mapping is not None:
        bound = emission.names.bind(mapping)
        subject = f"{subject}.lower()" if mapping is str.lower else f"{bound}({subject})"
    constant = expr.args[1]
    if not isinstance(constant, Const) or constant.text is None:
        pattern = pattern if mapping is None else f"{emission.names.bind(mapping)}({pattern})"
        return f"{emission.names.bind(call)}({subject}, {pattern})"
    text = constant.text if mapping is None else mapping(constant.text)
    test = _match_test(emission, expr, subject, text)
    return f"(not {test})" if call is not_like else test


def _match_test(emission: Emission, expr: Apply, subject: str, pattern: str) -> str:
    kind, text, test, _ = compile_pattern(pattern)
    if kind == "malformed":
        raise Refusal("LIKE pattern must not end with escape character", at=expr.at)
    if test is not None:
        return f"({emission.names.bind(test)}({subject}) is not None)"
    wanted = emission.names.bind(text)
    if kind == "exact":
        return f"({subject} == {wanted})"
    if kind == "contains":
        return f"({wanted} in {subject})"
    return f"{subject}.{'startswith' if kind == 'prefix' else 'endswith'}({wanted})"


def call_value(emission: Emission, expr: Apply) -> str:
    """Source of a call's value."""
    if not expr.is_strict:
        call = emission.operation(expr.signature).call
        values = ", ".join(emission.value(arg) for arg in expr.args)
        return f"{emission.names.bind(call)}({values})"
    guards, use = _strict(emission, expr)
    return f"({use} if {guards} else None)" if guards else use


def call_test(emission: Emission, expr: Apply, *, wanted: bool) -> str:
    """Source of the test whether a call that makes a bool is TRUE, or FALSE."""
    text = _text_comparison(emission, expr, wanted=wanted)
    if text is not None:
        return text
    guards, use = _text_order(emission, expr) or _strict(emission, expr)
    use = use if wanted else f"(not {use})"
    return f"({guards} and {use})" if guards else use


def cast_value(emission: Emission, expr: CastTo) -> str:
    """Source of a cast's value."""
    if expr.function == "relabel":
        return emission.value(expr.arg)
    if expr.function == "io" and expr.type.category == "S":
        return _written(emission, expr.arg)
    operand = emission.operand(expr.arg)
    use = _converted(emission, expr, operand.use)
    return f"({use} if {operand.guard} else None)" if operand.guard else use


def _converted(emission: Emission, expr: CastTo, use: str) -> str:
    """Source of the conversion of a value that is not NULL."""
    source, target = expr.arg.type.element, expr.type.element
    if expr.modifier:
        io = type_io(expr.type)
        assert io is not None and io.modifier is not None
        return f"{emission.names.bind(io.modifier.conversion(expr.modifier))}({use})"
    if not expr.function.startswith("array:"):
        return emission.names.applied(emission.operation(cast_signature(expr.function, expr.type)), [use])
    assert source is not None and target is not None
    convert = _item_conversion(emission, expr.function.removeprefix("array:"), source, target)
    return f"{emission.names.bind(partial(_convert_items, convert))}({use})"


def _convert_items(convert: Callable[[Any], Any], array: Array) -> Array:
    return array._replace(items=tuple(None if item is None else convert(item) for item in array.items))


def _item_conversion(
    emission: Emission, function: str, source: PgType, target: PgType
) -> Callable[[Any], Any]:
    """The conversion of one item that is not NULL (manual: ArrayCoerceExpr in the executor)."""
    if function == "relabel":
        return lambda item: item
    if function == "io" and target.category == "S":
        io = type_io(source)
        assert io is not None
        return io.write
    operation = emission.operation(cast_signature(function, target))
    return operation.call or _compiled(operation.template)


def _compiled(template: str) -> Callable[[Any], Any]:
    """The function of a template."""
    function: Callable[[Any], Any] = eval(f"lambda item: {template.format('item')}", {"Decimal": Decimal})
    return function


def join_guards(operands: Sequence[Operand], exprs: Sequence[Expr]) -> str:
    """All guards as one test. A strict function evaluates every operand even if an earlier one is NULL; so
    does `&`.
    """
    guards = [operand.guard for operand in operands if operand.guard]
    eager = len(guards) > 1 and any(may_raise(expr) for expr in exprs)
    return (" & " if eager else " and ").join(guards)


def _strict(emission: Emission, expr: Apply) -> tuple[str, str]:
    operands = [emission.operand(arg) for arg in expr.args]
    uses = [operand.use for operand in operands]
    if is_match(expr):
        use = match_source(emission, expr, *uses)
    elif (mapping := case_mapping(emission, expr)) is not None:
        use = f"{emission.names.bind(mapping)}({uses[0]})"
    else:
        use = emission.names.applied(emission.operation(expr.signature), uses)
    return join_guards(operands, expr.args), use


def _text_comparison(emission: Emission, expr: Apply, *, wanted: bool) -> str | None:
    """Source of `=` or `<>` of a column and a constant by text alone, None unless equal values of the type
    have equal text.
    """
    equality = OPERATIONS[expr.signature].equality
    if not equality or not all(is_canonical(arg) for arg in expr.args):
        return None
    is_equal = (equality == "eq") == wanted
    left, right = expr.args
    column = plain_column(left) or plain_column(right)
    other = right if plain_column(left) is not None else left
    if column is None or not isinstance(other, Const) or other.text is None:
        return None
    text, constant = emission.names.column(column.index), emission.names.bind(other.text)
    if is_equal:
        return f"({text} == {constant})"
    name = emission.names.temporary()
    return f"(({name} := {text}) is not None and {name} != {constant})"


def _text_order(emission: Emission, expr: Apply) -> tuple[str, str] | None:
    """Guard and source of an order of dates or timestamps by text, valid in years 0001 to 9999."""
    sign = OPERATIONS[expr.signature].ordered_text
    if not sign:
        return None
    left, right = expr.args
    column = plain_column(left)
    if column is None or not isinstance(right, Const) or not _is_common_year(right.text):
        return None
    name, constant = emission.names.temporary(), emission.names.bind(right.text)
    decoded = f"{emission.names.decoded(column.type, name)} {sign} {emission.names.constant(right)}"
    by_text = f"{name} {sign} {constant}"
    use = f'({by_text} if {name}[4:5] == "-" and {name}[-1] != "C" else {decoded})'
    return f"(({name} := {emission.names.column(column.index)}) is not None)", use


def _is_common_year(text: str | None) -> bool:
    return text is not None and text[4:5] == "-" and not text.endswith("BC")


def _written(emission: Emission, arg: Expr) -> str:
    """Source of the text that the type's output function writes; the row has that of a column."""
    if isinstance(arg, ColumnRef):
        return emission.names.column(arg.index)
    io = type_io(arg.type)
    if io is None or arg.type.oid == TEXT:
        return emission.value(arg)
    operand = emission.operand(arg)
    use = f"{emission.names.bind(io.write)}({operand.use})"
    return f"({use} if {operand.guard} else None)" if operand.guard else use
