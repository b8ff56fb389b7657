"""Overload resolution: which operator or function is meant, which type may stand for which without a cast,
and what polymorphic arguments become (manual: Type Conversion; Extending SQL, The PostgreSQL Type System).

Transcribes the server's rules (`oper()`, `func_get_detail()`, `func_select_candidate()`,
`can_coerce_type()`, `select_common_type()`, `enforce_generic_type_consistency()`), because a clause must
mean here what it means there. Pure; knows `pg_catalog.py`, not the clause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

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
    FUNCTIONS,
    OPERATORS,
    TEXT,
    TYPES,
    UNKNOWN,
    Function,
    Operator,
    PgType,
    array_of,
)

UNKNOWN_TYPE: Final = TYPES[UNKNOWN]

_SAME: Final = frozenset({ANYARRAY, ANYELEMENT, ANYNONARRAY, ANYENUM})
_COMPATIBLE: Final = frozenset({ANYCOMPATIBLE, ANYCOMPATIBLEARRAY, ANYCOMPATIBLENONARRAY})
_ARRAYS: Final = frozenset({ANYARRAY, ANYCOMPATIBLEARRAY})
_NOT_ARRAYS: Final = frozenset({ANYNONARRAY, ANYCOMPATIBLENONARRAY})


def coerces_implicitly(source: PgType, target: PgType) -> bool:
    """Whether `source` is coerced implicitly to the concrete type `target`."""
    if source in (target, UNKNOWN_TYPE):
        return True
    path = CASTS.get((source.oid, target.oid))
    if path is not None:
        return path.context == "i"
    if source.element is not None and target.element is not None:
        return coerces_implicitly(source.element, target.element)
    return False


def accepts(declared: Sequence[int], inputs: Sequence[PgType]) -> bool:
    """Whether arguments of types `inputs` are accepted for parameters of types `declared`."""
    actual = actual_types(declared, inputs)
    if actual is None:
        return False
    return all(coerces_implicitly(given, wanted) for given, wanted in zip(inputs, actual, strict=True))


def actual_types(declared: Sequence[int], inputs: Sequence[PgType]) -> list[PgType] | None:
    """`declared` with its polymorphic types resolved by `inputs`, None if these disagree.

    A polymorphic type stays unknown if all inputs that decide it are unknown.
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
    """The type of a call's result, which may be declared as polymorphic."""
    if result in _SAME or result in _COMPATIBLE:
        element = _element(declared, inputs, _SAME if result in _SAME else _COMPATIBLE)
        if element is None or element == UNKNOWN_TYPE:
            return None
        return array_of(element) if result in _ARRAYS else element
    return TYPES.get(result)


def common_type(types: Sequence[PgType]) -> PgType | None:
    """The common type of CASE, COALESCE, ARRAY, IN and similar: text if all are unknown, None if there is
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
    """The element type of a family of polymorphic types: unknown if no input decides it, None if the inputs
    disagree.
    """
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


Candidate = TypeVar("Candidate", Operator, Function)

_STRING = "S"


@lru_cache(maxsize=4096)
def find_operator(name: str, left: PgType | None, right: PgType) -> Operator | None:
    """The operator of `left name right` (`left` None for a prefix operator), None if there is not exactly
    one.
    """
    inputs = (right,) if left is None else (left, right)
    named = [operator for operator in OPERATORS.get(name, ()) if len(operator.arguments) == len(inputs)]
    wanted = _exact_operands(inputs)
    for operator in named:
        if operator.arguments == wanted:
            return operator
    return _choose(named, inputs)


def find_function(name: str, inputs: Sequence[PgType]) -> Function | None:
    """The function of a call, None if there is not exactly one. VARIADIC "any" takes any number of
    arguments.
    """
    named = [_spread(function, len(inputs)) for function in FUNCTIONS.get(name, ())]
    fitting = [function for function in named if len(function.arguments) == len(inputs)]
    wanted = tuple(given.oid for given in inputs)
    for function in fitting:
        if function.arguments == wanted:
            return function
    return _choose(fitting, tuple(inputs))


def _spread(function: Function, count: int) -> Function:
    if function.variadic != ANY or count < len(function.arguments):
        return function
    return function._replace(arguments=(ANY,) * count)


def _exact_operands(inputs: tuple[PgType, ...]) -> tuple[int, ...]:
    """Operand types of an exact match, which takes an unknown operand to be of the other's type."""
    oids = [given.oid for given in inputs]
    known = [oid for oid in oids if oid != UNKNOWN]
    if len(inputs) == 2 and len(known) == 1:
        oids = known * 2
    return tuple(oids)


def _choose(named: Sequence[Candidate], inputs: tuple[PgType, ...]) -> Candidate | None:
    candidates = [candidate for candidate in named if accepts(candidate.arguments, inputs)]
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    candidates = _best(candidates, lambda one: _count(one, inputs, _is_exact))
    if len(candidates) == 1:
        return candidates[0]
    candidates = _best(candidates, lambda one: _count(one, inputs, _is_exact_or_preferred))
    if len(candidates) == 1:
        return candidates[0]
    if all(given.oid != UNKNOWN for given in inputs):
        return None
    candidates = _narrow_by_category(candidates, inputs)
    if len(candidates) == 1:
        return candidates[0]
    return _assume_one_type(candidates, inputs)


def _best(candidates: list[Candidate], score: Callable[[Candidate], int]) -> list[Candidate]:
    scores = [score(candidate) for candidate in candidates]
    highest = max(scores)
    return [candidate for candidate, one in zip(candidates, scores, strict=True) if one == highest]


def _count(
    candidate: Operator | Function, inputs: tuple[PgType, ...], matches: Callable[[PgType, int], bool]
) -> int:
    pairs = zip(inputs, candidate.arguments, strict=True)
    return sum(1 for given, wanted in pairs if given.oid != UNKNOWN and matches(given, wanted))


def _is_exact(given: PgType, wanted: int) -> bool:
    return given.oid == wanted


def _is_exact_or_preferred(given: PgType, wanted: int) -> bool:
    found = TYPES.get(wanted)
    if given.oid == wanted:
        return True
    return found is not None and found.is_preferred and found.category == given.category


def _narrow_by_category(candidates: list[Candidate], inputs: tuple[PgType, ...]) -> list[Candidate]:
    """Rule: for an unknown input prefer the string category if a candidate accepts it, else the category
    that all accept.
    """
    slots: dict[int, tuple[str, bool]] = {}
    for index, given in enumerate(inputs):
        if given.oid != UNKNOWN:
            continue
        slot = _slot_category([TYPES[candidate.arguments[index]] for candidate in candidates])
        if slot is None:
            return candidates
        slots[index] = slot
    kept = [one for one in candidates if all(_fills(one, index, slot) for index, slot in slots.items())]
    return kept or candidates


def _slot_category(types: list[PgType]) -> tuple[str, bool] | None:
    categories = {found.category for found in types}
    if len(categories) > 1 and _STRING not in categories:
        return None
    category = _STRING if _STRING in categories else categories.pop()
    return category, any(found.is_preferred for found in types if found.category == category)


def _fills(candidate: Operator | Function, index: int, slot: tuple[str, bool]) -> bool:
    category, has_preferred = slot
    found = TYPES[candidate.arguments[index]]
    return found.category == category and (found.is_preferred or not has_preferred)


def _assume_one_type(candidates: list[Candidate], inputs: tuple[PgType, ...]) -> Candidate | None:
    """Rule: if all known inputs have one type, take the unknown ones to have it too."""
    known = {given for given in inputs if given.oid != UNKNOWN}
    if len(known) != 1:
        return None
    assumed = (known.pop(),) * len(inputs)
    fitting = [candidate for candidate in candidates if accepts(candidate.arguments, assumed)]
    return fitting[0] if len(fitting) == 1 else None
