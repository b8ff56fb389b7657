"""Source of ANY, ALL, ARRAY[…] and subscripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgshapes.where.codegen.call_source import case_mapping
from pgshapes.where.codegen.emission import Emission, is_canonical, is_match
from pgshapes.where.language.tree import Apply, ArrayOf, Const, Quantified, Subscript, plain_column
from pgshapes.where.types.arrays import Array, decode_array, element_at, slice_of, stack, vector
from pgshapes.where.types.operation import CaseMapping
from pgshapes.where.types.registry import OPERATIONS


def quantified_value(emission: Emission, expr: Quantified) -> str:
    """Source of ANY or ALL, three-valued."""
    function = emission.names.bind(any_of if expr.is_any else all_of)
    test = _element_test(emission, expr)
    return f"{function}({test}, {emission.value(expr.left)}, {emission.value(expr.array)})"


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


def _element_test(emission: Emission, expr: Quantified) -> str:
    operation = OPERATIONS[expr.signature]
    element = expr.array.type.element
    assert element is not None
    pair = Apply(
        expr.type, expr.at, expr.operator, expr.signature, (expr.left, Const(element, expr.at, None)), True
    )
    if is_match(pair):
        mapping = case_mapping(emission, pair)
        call = operation.call
        assert call is not None
        return emission.names.bind(call if mapping is None else _after_mapping(call, mapping))
    return f"(lambda a, b: {emission.names.applied(operation, ['a', 'b'])})"


def _after_mapping(call: Callable[..., Any], mapping: CaseMapping) -> Callable[[str, str], Any]:
    return lambda text, pattern: call(mapping(text), mapping(pattern))


def any_of(test: Callable[[Any, Any], bool], left: Any, array: Array | None) -> bool | None:
    """`left op ANY (array)`: an empty array is FALSE even for NULL."""
    if array is None:
        return None
    if not array.items:
        return False
    if left is None:
        return None
    result: bool | None = False
    for item in array.items:
        if item is None:
            result = None
        elif test(left, item):
            return True
    return result


def all_of(test: Callable[[Any, Any], bool], left: Any, array: Array | None) -> bool | None:
    """`left op ALL (array)`: an empty array is TRUE even for NULL."""
    if array is None:
        return None
    if not array.items:
        return True
    if left is None:
        return None
    result: bool | None = True
    for item in array.items:
        if item is None:
            result = None
        elif not test(left, item):
            return False
    return result


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
