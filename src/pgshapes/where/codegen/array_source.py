"""Source of ANY, ALL, ARRAY[…] and subscripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pgshapes.where.codegen.call_source import case_mapping
from pgshapes.where.codegen.emission import Emission, is_canonical, is_match
from pgshapes.where.language.tree import Apply, ArrayOf, Const, Quantified, Subscript, plain_column
from pgshapes.where.types.arrays import decode_array, element_at, slice_of, stack, vector
from pgshapes.where.types.membership import (
    all_of,
    any_of,
    differs_from_all,
    differs_from_any,
    equals_all,
    equals_any,
    matches_all,
    matches_any,
)
from pgshapes.where.types.operation import CaseMapping
from pgshapes.where.types.registry import OPERATIONS

_BY_EQUALITY: Final = {
    ("eq", True): equals_any,
    ("eq", False): equals_all,
    ("ne", True): differs_from_any,
    ("ne", False): differs_from_all,
}
"""By the equality of the operation, and whether it is ANY."""


def quantified_value(emission: Emission, expr: Quantified) -> str:
    """Source of ANY or ALL, three-valued."""
    operands = f"{emission.value(expr.left)}, {emission.value(expr.array)}"
    equality = OPERATIONS[expr.signature].equality
    if equality:
        return f"{emission.names.bind(_BY_EQUALITY[equality, expr.is_any])}({operands})"
    pair = _element_pair(expr)
    loops = (matches_any, matches_all) if is_match(pair) else (any_of, all_of)
    function = emission.names.bind(loops[0] if expr.is_any else loops[1])
    return f"{function}({_element_test(emission, pair)}, {operands})"


def quantified_test(emission: Emission, expr: Quantified, *, wanted: bool) -> str:
    """Source of the test for TRUE or FALSE. A column and a constant array are tested with a set."""
    texts = constant_texts(expr)
    column = plain_column(expr.left)
    if texts is None or column is None:
        return f"({quantified_value(emission, expr)} is {wanted})"
    is_in = expr.is_any == wanted
    text, constants = emission.names.column(column.index), emission.names.bind(frozenset(texts - {None}))
    if is_in:
        return f"({text} in {constants})"
    if None in texts:
        return "False"
    name = emission.names.temporary()
    return f"(({name} := {text}) is not None and {name} not in {constants})"


def constant_texts(expr: Quantified) -> set[str | None] | None:
    """The texts of `column = ANY (constants)` or `column <> ALL (constants)`, else None. Never empty."""
    wanted = "eq" if expr.is_any else "ne"
    if OPERATIONS[expr.signature].equality != wanted or not is_canonical(expr.left):
        return None
    if not isinstance(expr.array, Const) or expr.array.text is None:
        return None
    items = decode_array(expr.array.text, str).items
    return set(items) or None


def _element_pair(expr: Quantified) -> Apply:
    """The comparison with one element."""
    element = expr.array.type.element
    assert element is not None
    operands = (expr.left, Const(element, expr.at, None))
    return Apply(expr.type, expr.at, expr.operator, expr.signature, operands, is_operator=True)


def _element_test(emission: Emission, pair: Apply) -> str:
    operation = OPERATIONS[pair.signature]
    if is_match(pair):
        mapping = case_mapping(emission, pair)
        call = operation.call
        assert call is not None
        return emission.names.bind(call if mapping is None else _after_mapping(call, mapping))
    return f"(lambda a, b: {emission.names.applied(operation, ['a', 'b'])})"


def _after_mapping(call: Callable[..., Any], mapping: CaseMapping) -> Callable[[str, str], Any]:
    return lambda text, pattern: call(mapping(text), mapping(pattern))


def array_value(emission: Emission, expr: ArrayOf) -> str:
    """Source of `ARRAY[…]`."""
    values = "".join(f"{emission.value(item)}, " for item in expr.items)
    is_nested = any(item.type.is_array for item in expr.items)
    return f"{emission.names.bind(stack if is_nested else vector)}(({values}))"


def subscript_value(emission: Emission, expr: Subscript) -> str:
    """Source of an element or a slice. The subscripts of a NULL array are not evaluated."""
    array = emission.names.temporary()
    head = f"None if ({array} := {emission.value(expr.array)}) is None else "
    upper = "".join("None, " if bound is None else f"{emission.value(bound)}, " for bound in expr.upper)
    if not expr.is_slice:
        return f"({head}{emission.names.bind(element_at)}({array}, ({upper})))"
    lower = "".join("None, " if bound is None else f"{emission.value(bound)}, " for bound in expr.lower)
    given = tuple(
        (low is not None, high is not None) for low, high in zip(expr.lower, expr.upper, strict=True)
    )
    arguments = f"{array}, ({lower}), ({upper}), {emission.names.bind(given)}"
    return f"({head}{emission.names.bind(slice_of)}({arguments}))"
