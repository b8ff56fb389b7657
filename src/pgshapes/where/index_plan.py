"""By which values to look up the rows that a clause may match: the clause as alternatives of equalities.

The alternatives cover every row that matches. A row that is found by an alternative with `is_complete`
matches; for the others the predicate decides. Pure.

Invariant: a value is decoded to be a key only where an equality compares it that is declared as keyed, so it
has a hash and is equal to what the equality says.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import product
from math import prod
from typing import Final, NamedTuple

from pgshapes.where.language.tree import (
    Apply,
    ColumnRef,
    Connective,
    Const,
    Expr,
    IsDistinct,
    IsNull,
    IsTruth,
    Logic,
    Quantified,
    plain_column,
)
from pgshapes.where.pg_catalog import BOOL, TYPES_BY_NAME, PgType
from pgshapes.where.types.arrays import Array
from pgshapes.where.types.registry import OPERATIONS, type_io

MAX_TERMS: Final = 100
"""Alternatives of one clause."""
MAX_KEYS: Final = 10_000
"""Keys of one alternative."""
MAX_COMBINATIONS: Final = 1_000
"""Keys of one alternative that come from combining the values of several columns."""


class KeyColumn(NamedTuple):
    """A part of a key: the value of a column, or one element of its array."""

    position: int
    type: PgType
    is_element: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the text in the row is the key, so that it need not be decoded."""
        io = type_io(self.type)
        return not self.is_element and io is not None and io.is_canonical


class IndexTerm(NamedTuple):
    """One alternative: rows whose `columns` have one of `keys`."""

    columns: tuple[KeyColumn, ...]
    keys: tuple[tuple[Hashable, ...], ...]
    is_complete: bool


IndexPlan = tuple[IndexTerm, ...] | None
"""The alternatives, () when no row matches, None when the clause cannot be looked up by value."""


class _Conjunct(NamedTuple):
    keys: dict[KeyColumn, frozenset[Hashable]]
    is_complete: bool


def index_plan(expr: Expr) -> IndexPlan:
    """The plan of a folded clause."""
    alternatives = _alternatives(expr)
    if alternatives is None:
        return None
    terms = [_term(one) for one in alternatives if all(one.keys.values())]
    return None if any(not term.columns for term in terms) else tuple(terms)


def _alternatives(expr: Expr) -> list[_Conjunct] | None:
    match expr:
        case Const():
            return None if expr.text == "t" else []
        case Logic(connective=Connective.OR):
            return _either([_alternatives(arg) for arg in expr.args])
        case Logic(connective=Connective.AND):
            return _both([_alternatives(arg) for arg in expr.args])
        case Logic():
            column = plain_column(expr.args[0])
            return None if column is None else _equal(column, ["f"])
        case IsTruth(truth=True, negated=False):
            return _alternatives(expr.arg)
        case ColumnRef() if expr.type.oid == BOOL:
            return _equal(expr, ["t"])
        case IsNull(negated=False):
            column = plain_column(expr.arg)
            return None if column is None else _null(column)
        case _:
            return _comparison(expr)


def _comparison(expr: Expr) -> list[_Conjunct] | None:
    match expr:
        case Apply(args=(left, right)) if _is_equality(expr.signature):
            return _constant_equality(left, right)
        case IsDistinct(negated=True, left=left, right=right):
            return _sameness(left, right, is_keyed=_is_equality(expr.equality))
        case Quantified(is_any=True, left=left, array=array) if _is_equality(expr.signature):
            return _membership(left, array)
        case Apply(signature="anyarray @> anyarray", args=(left, right)):
            return _contained(left, right)
        case Apply(signature="anyarray <@ anyarray", args=(left, right)):
            return _contained(right, left)
        case Apply(signature="anyarray && anyarray", args=(left, right)):
            return _overlapping(left, right) or _overlapping(right, left)
        case _:
            return None


def _is_equality(signature: str) -> bool:
    return OPERATIONS[signature].equality == "eq"


def _constant_equality(left: Expr, right: Expr) -> list[_Conjunct] | None:
    if isinstance(left, Const):
        left, right = right, left
    column = plain_column(left)
    if column is None or not isinstance(right, Const):
        return None
    return [] if right.text is None else _equal(column, [right.text], right.type)


def _sameness(left: Expr, right: Expr, *, is_keyed: bool) -> list[_Conjunct] | None:
    """IS NOT DISTINCT FROM, which is TRUE for two NULLs."""
    if isinstance(left, Const):
        left, right = right, left
    if isinstance(right, Const) and right.text is None:
        column = plain_column(left)
        return None if column is None else _null(column)
    return _constant_equality(left, right) if is_keyed else None


def _membership(left: Expr, array: Expr) -> list[_Conjunct] | None:
    column = plain_column(left)
    if column is not None and isinstance(array, Const) and array.type.element is not None:
        found = _array(array)
        return [] if found is None else _equal(column, _texts(found, array.type.element), array.type.element)
    column = plain_column(array)
    if column is not None and isinstance(left, Const):
        return [] if left.text is None else _has_element(column, [_value(left.text, left.type)])
    return None


def _contained(container: Expr, content: Expr) -> list[_Conjunct] | None:
    column = plain_column(container)
    found = _array(content) if isinstance(content, Const) else None
    if column is None or found is None or not found.items:
        return None
    if None in found.items:
        return []
    distinct = set(found.items)
    first = next(iter(found.items))
    alternatives = _has_element(column, [first])
    return [one._replace(is_complete=len(distinct) == 1) for one in alternatives]


def _overlapping(left: Expr, right: Expr) -> list[_Conjunct] | None:
    column = plain_column(left)
    found = _array(right) if isinstance(right, Const) else None
    if column is None or found is None:
        return None
    return _has_element(column, [item for item in found.items if item is not None])


def _has_element(column: ColumnRef, values: list[Hashable]) -> list[_Conjunct]:
    element = column.type.element
    assert element is not None
    key = KeyColumn(column.index, element, is_element=True)
    return [_Conjunct({key: frozenset(values)}, True)] if values else []


def _equal(column: ColumnRef, texts: list[str | None], of: PgType | None = None) -> list[_Conjunct]:
    """Rows whose column is one of the texts, which are constants of the type `of`."""
    key = KeyColumn(column.index, column.type)
    if key.is_text:
        return [_Conjunct({key: frozenset(texts)}, True)]
    values = [None if text is None else _value(text, of or column.type) for text in texts]
    return [_Conjunct({key: frozenset(values)}, True)]


def _null(column: ColumnRef) -> list[_Conjunct]:
    """Rows whose column is NULL, of any type. The text in the row is the key, as no text is NULL: values of
    some types cannot be keys of a dictionary.
    """
    return [_Conjunct({KeyColumn(column.index, TYPES_BY_NAME["text"]): frozenset([None])}, True)]


def _array(expr: Const) -> Array | None:
    io = type_io(expr.type)
    if expr.text is None or io is None:
        return None
    found: Array = io.decode(expr.text)
    return found


def _texts(array: Array, element: PgType) -> list[str | None]:
    io = type_io(element)
    assert io is not None
    return [io.write(item) for item in array.items if item is not None]


def _value(text: str, of: PgType) -> Hashable:
    io = type_io(of)
    assert io is not None
    value: Hashable = io.decode(text)
    return value


def _either(parts: list[list[_Conjunct] | None]) -> list[_Conjunct] | None:
    merged: list[_Conjunct] = []
    for part in parts:
        if part is None:
            return None
        for one in part:
            _merge_into(merged, one)
    return merged if len(merged) <= MAX_TERMS else None


def _merge_into(merged: list[_Conjunct], one: _Conjunct) -> None:
    """`a = 1 OR a = 2` is one alternative with two values."""
    if len(one.keys) == 1:
        (key,) = one.keys
        for at, other in enumerate(merged):
            if list(other.keys) == [key] and other.is_complete == one.is_complete:
                merged[at] = other._replace(keys={key: other.keys[key] | one.keys[key]})
                return
    merged.append(one)


def _both(parts: list[list[_Conjunct] | None]) -> list[_Conjunct] | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    combined = [_Conjunct({}, len(known) == len(parts))]
    for part in sorted(known, key=len):
        if len(combined) * max(len(part), 1) > MAX_TERMS:
            combined = [one._replace(is_complete=False) for one in combined]
            continue
        combined = [_joined(one, other) for one, other in product(combined, part)]
    return combined


def _joined(one: _Conjunct, other: _Conjunct) -> _Conjunct:
    keys = dict(one.keys)
    complete = one.is_complete and other.is_complete
    for key, values in other.keys.items():
        if key.is_element and any(present.is_element for present in keys):
            complete = False
        else:
            keys[key] = keys[key] & values if key in keys else values
    return _Conjunct(keys, complete)


def _term(conjunct: _Conjunct) -> IndexTerm:
    """The alternative with its keys, the combinations of the columns' values; columns with most values are
    left out until there are not too many.
    """
    keys = dict(conjunct.keys)
    complete = conjunct.is_complete
    while len(keys) > 1 and prod(map(len, keys.values())) > MAX_COMBINATIONS:
        del keys[max(keys, key=lambda key: len(keys[key]))]
        complete = False
    columns = tuple(sorted(keys, key=lambda key: (key.is_element, key.position)))
    combinations = tuple(product(*(keys[column] for column in columns)))
    if len(combinations) > MAX_KEYS:
        return IndexTerm((), (), False)
    return IndexTerm(columns, combinations, complete)
