"""LIKE and ILIKE with a constant pattern: the cheapest test that means the same."""

from __future__ import annotations

from pgshapes.where.codegen.emission import _MATCHES, Emission
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.tree import Apply, Const
from pgshapes.where.types.patterns import compile_pattern
from pgshapes.where.types.registry import OPERATIONS
from pgshapes.where.types.texts import Fold, lower_of


def fold_of(emission: Emission, expr: Apply) -> Fold | None:
    """lower() of the collation that the call works by; None when it heeds case. Raises Refusal."""
    if OPERATIONS[expr.signature].collation != "case":
        return None
    collation = emission.collation(expr)
    fold = None if collation is None else lower_of(collation, emission.server_version)
    if fold is None:
        raise Refusal("the case rules of the collation are not known", at=expr.at)
    return fold


def match_source(emission: Emission, expr: Apply, subject: str, pattern: str) -> str:
    """Source of the match of a subject that is not NULL; `pattern` is the source of the pattern's value."""
    call = OPERATIONS[expr.signature].call
    assert call is not None
    fold = fold_of(emission, expr)
    if fold is not None:
        folded = emission.names.bind(fold)
        subject = f"{subject}.lower()" if fold is str.lower else f"{folded}({subject})"
    constant = expr.args[1]
    if not isinstance(constant, Const) or constant.text is None:
        pattern = pattern if fold is None else f"{emission.names.bind(fold)}({pattern})"
        return f"{emission.names.bind(call)}({subject}, {pattern})"
    text = constant.text if fold is None else fold(constant.text)
    return (_MATCHES[call] and f"(not {_test(emission, expr, subject, text)})") or _test(
        emission, expr, subject, text
    )


def _test(emission: Emission, expr: Apply, subject: str, pattern: str) -> str:
    kind, text, test = compile_pattern(pattern)
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
