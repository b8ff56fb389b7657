"""Source → functions. A factory takes the constants as arguments, so equal sources share one code object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pgshapes.model.change import Row
from pgshapes.where.codegen.emitter import Emitter
from pgshapes.where.language.collation_rules import CollationRules
from pgshapes.where.language.tree import Expr
from pgshapes.where.types.comparisons import array_order, stamp_of_date
from pgshapes.where.types.raising import RowError

_GLOBALS: Final[dict[str, Any]] = {
    "Decimal": Decimal,
    "array_order": array_order,
    "stamp_of_date": stamp_of_date,
    "Errors": (RowError, RecursionError),
}
"""All that source may name besides its constants, the row and builtins."""

_TEST: Final = """\
def factory({constants}):
    def matches(r):
        try:
            return {test}
        except Errors:
            return False
    def matches_many(rows):
        found = []
        add = found.append
        try:
            for r in rows:
                add({test})
        except Errors:
            return [matches(r) for r in rows]
        return found
    return matches, matches_many
"""
_VALUE: Final = """\
def factory({constants}):
    return lambda r: {value}
"""


class Compiled(NamedTuple):
    """The two forms of a predicate."""

    matches: Callable[[Row], bool]
    matches_many: Callable[[Sequence[Row]], list[bool]]
    source: str


def compile_test(expr: Expr, rules: CollationRules) -> Compiled:
    """The predicate that is True for the rows for which the expression is TRUE."""
    emitter = Emitter(rules)
    test = emitter.true(expr)
    source = _TEST.format(constants=_parameters(emitter), test=test)
    matches, many = _factory(source)(*emitter.names.constants)
    return Compiled(matches, many, source)


def evaluate_constant(expr: Expr, rules: CollationRules) -> Any:
    """The value of an expression that reads no column. Raises RowError."""
    emitter = Emitter(rules)
    value = emitter.value(expr)
    return _factory(_VALUE.format(constants=_parameters(emitter), value=value))(*emitter.names.constants)(())


def _parameters(emitter: Emitter) -> str:
    return ", ".join(f"k{index}" for index in range(len(emitter.names.constants)))


@lru_cache(maxsize=1024)
def _factory(source: str) -> Callable[..., Any]:
    scope = dict(_GLOBALS)
    exec(compile(source, "<clause>", "exec"), scope)  # source is made of our templates only
    factory: Callable[..., Any] = scope["factory"]
    return factory
