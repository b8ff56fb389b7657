"""What may stand for what without a written cast, and what polymorphic arguments become (manual: Extending
SQL, The PostgreSQL Type System; Type Conversion, UNION and related constructs).

A transcription of `can_coerce_type()`, `select_common_type()` and `enforce_generic_type_consistency()`.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pgshapes.where.pg_catalog import (
    ANY,
    ANYARRAY,
    ANYCOMPATIBLE,
    ANYCOMPATIBLEARRAY,
    ANYCOMPATIBLENONARRAY,
    ANYELEMENT,
    ANYENUM,
    ANYNONARRAY,
    CASTS,
    TEXT,
    TYPES,
    UNKNOWN,
    PgType,
    array_of,
)

UNKNOWN_TYPE: Final = TYPES[UNKNOWN]

_SAME: Final = frozenset({ANYARRAY, ANYELEMENT, ANYNONARRAY, ANYENUM})
_COMPATIBLE: Final = frozenset({ANYCOMPATIBLE, ANYCOMPATIBLEARRAY, ANYCOMPATIBLENONARRAY})
_ARRAYS: Final = frozenset({ANYARRAY, ANYCOMPATIBLEARRAY})
_NOT_ARRAYS: Final = frozenset({ANYNONARRAY, ANYCOMPATIBLENONARRAY})


def coerces_implicitly(source: PgType, target: PgType) -> bool:
    """Whether an expression of type `source` may stand where the concrete type `target` is wanted."""
    if source in (target, UNKNOWN_TYPE):
        return True
    path = CASTS.get((source.oid, target.oid))
    if path is not None:
        return path.context == "i"
    if source.element is not None and target.element is not None:
        return coerces_implicitly(source.element, target.element)
    return False


def accepts(declared: Sequence[int], inputs: Sequence[PgType]) -> bool:
    """Whether arguments of the types `inputs` may be passed where `declared` is wanted."""
    actual = actual_types(declared, inputs)
    if actual is None:
        return False
    return all(coerces_implicitly(given, wanted) for given, wanted in zip(inputs, actual, strict=True))


def actual_types(declared: Sequence[int], inputs: Sequence[PgType]) -> list[PgType] | None:
    """`declared` with its polymorphic types replaced by what `inputs` make of them; None if they disagree.

    An unknown input leaves its place unknown unless the others decide it.
    """
    same = _element(declared, inputs, _SAME)
    compatible = _element(declared, inputs, _COMPATIBLE)
    if same is None or compatible is None:
        return None
    actual = [
        _actual(wanted, given, same, compatible) for wanted, given in zip(declared, inputs, strict=True)
    ]
    return None if None in actual else [one for one in actual if one is not None]


def result_type(result: int, declared: Sequence[int], inputs: Sequence[PgType]) -> PgType | None:
    """The type that a call gives, when its declared result may be polymorphic."""
    if result in _SAME or result in _COMPATIBLE:
        element = _element(declared, inputs, _SAME if result in _SAME else _COMPATIBLE)
        if element is None or element == UNKNOWN_TYPE:
            return None
        return array_of(element) if result in _ARRAYS else element
    return TYPES.get(result)


def common_type(types: Sequence[PgType]) -> PgType | None:
    """The type of CASE, COALESCE, ARRAY, IN and their kind; text if nothing is known, None if there is
    none.
    """
    chosen = types[0]
    for given in types[1:]:
        if given in (chosen, UNKNOWN_TYPE):
            continue
        if chosen == UNKNOWN_TYPE:
            chosen = given
        elif given.category != chosen.category:
            return None
        elif (
            not chosen.is_preferred
            and coerces_implicitly(chosen, given)
            and not coerces_implicitly(given, chosen)
        ):
            chosen = given
    return TYPES[TEXT] if chosen == UNKNOWN_TYPE else chosen


def _element(declared: Sequence[int], inputs: Sequence[PgType], family: frozenset[int]) -> PgType | None:
    """What the family's element type is: unknown if no input tells, None if the inputs disagree."""
    elements = []
    for wanted, given in zip(declared, inputs, strict=True):
        if wanted not in family or given == UNKNOWN_TYPE:
            continue
        element = given.element if wanted in _ARRAYS else given
        if element is None or (wanted in _NOT_ARRAYS and given.is_array):
            return None
        if wanted == ANYENUM and given.kind != "e":
            return None
        elements.append(element)
    if not elements:
        return UNKNOWN_TYPE
    if family is _SAME:
        return elements[0] if len(set(elements)) == 1 else None
    return common_type(elements)


def _actual(wanted: int, given: PgType, same: PgType, compatible: PgType) -> PgType | None:
    if wanted == ANY:
        return given
    if wanted not in _SAME and wanted not in _COMPATIBLE:
        return TYPES.get(wanted)
    element = same if wanted in _SAME else compatible
    if element == UNKNOWN_TYPE:
        return UNKNOWN_TYPE
    if wanted in _NOT_ARRAYS and element.is_array:
        return None
    return array_of(element) if wanted in _ARRAYS else element
