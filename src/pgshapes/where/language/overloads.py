"""Which overload of an operator or function Postgres takes (manual: chapter Type Conversion).

A transcription of the server's rules (`oper()`, `func_get_detail()`, `func_select_candidate()`), because a
clause must mean here what it means there. Pure; knows `pg_catalog.py`, not the clause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from pgshapes.where.language.polymorphism import accepts
from pgshapes.where.pg_catalog import ANY, FUNCTIONS, OPERATORS, TYPES, UNKNOWN, Function, Operator, PgType

Candidate = TypeVar("Candidate", Operator, Function)

_STRING = "S"


@lru_cache(maxsize=4096)
def find_operator(name: str, left: PgType | None, right: PgType) -> Operator | None:
    """The operator that `left name right` means (`left` None: prefix), None when there is no single one."""
    inputs = (right,) if left is None else (left, right)
    named = [operator for operator in OPERATORS.get(name, ()) if len(operator.arguments) == len(inputs)]
    wanted = _exact_operands(inputs)
    for operator in named:
        if operator.arguments == wanted:
            return operator
    return _choose(named, inputs)


def find_function(name: str, inputs: Sequence[PgType]) -> Function | None:
    """The function that a call means, None when there is no single one; VARIADIC "any" takes any number."""
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
    """Operand types of an exact match: an unknown operand is taken to be of the other's type."""
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
    """Rule: for an unknown input prefer strings if a candidate takes one, else the one category all take."""
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
    """Rule: if all known inputs are of one type, take the unknown ones to be of it too."""
    known = {given for given in inputs if given.oid != UNKNOWN}
    if len(known) != 1:
        return None
    assumed = (known.pop(),) * len(inputs)
    fitting = [candidate for candidate in candidates if accepts(candidate.arguments, assumed)]
    return fitting[0] if len(fitting) == 1 else None
