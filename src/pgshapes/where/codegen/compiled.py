"""Typed tree → functions: which function makes the source of which node, and the source compiled.

The source is a factory that takes the constants as arguments, so clauses with equal source share one code
object.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from pgshapes.model.change import Row
from pgshapes.where.codegen import array_source, call_source, logic_source
from pgshapes.where.codegen.emission import Names, Operand, may_raise
from pgshapes.where.collation import Collation
from pgshapes.where.language.collation_rules import CollationRules
from pgshapes.where.language.tree import (
    Apply,
    ArrayOf,
    Case,
    CastTo,
    Coalesce,
    Collated,
    ColumnRef,
    Const,
    Expr,
    Extreme,
    IsDistinct,
    IsNull,
    IsTruth,
    Logic,
    NullIf,
    Quantified,
    Subscript,
)
from pgshapes.where.types.arrays import array_order
from pgshapes.where.types.operation import Operation, RowError
from pgshapes.where.types.registry import operation_of
from pgshapes.where.types.timestamps import timestamp_of_date


class Emitter:
    """The `Emission` of one clause; afterwards `names` holds the constants of the source."""

    def __init__(self, rules: CollationRules) -> None:
        self.names = Names()
        self._rules = rules

    @property
    def server_version(self) -> int:
        """`server_version_num`, 0 for the newest."""
        return self._rules.server.version

    def collation(self, expr: Expr) -> Collation | None:
        """The collation that an operation uses."""
        return self._rules.of_operation(expr)

    def operation(self, signature: str) -> Operation:
        """The operation of a signature, as the server's version has it."""
        return operation_of(signature, self.server_version)

    def operand(self, expr: Expr) -> Operand:
        """The expression as an operand of a strict operation."""
        match expr:
            case Const(text=None):
                return Operand("False", "None")
            case Const():
                return Operand("", self.names.constant(expr))
            case IsNull() | IsTruth() | IsDistinct():
                return Operand("", self.value(expr))
            case ColumnRef():
                name = self.names.temporary()
                text = self.names.column(expr.index)
                return Operand(f"(({name} := {text}) is not None)", self.names.decoded(expr.type, name))
            case CastTo(function="relabel") | Collated():
                return self.operand(expr.arg)
            case _:
                name = self.names.temporary()
                return Operand(f"(({name} := {self.value(expr)}) is not None)", name)

    def value(self, expr: Expr) -> str:
        """Source of the value, None for NULL."""
        match expr:
            case Const():
                return "None" if expr.text is None else self.names.constant(expr)
            case ColumnRef():
                guard, use = self.operand(expr)
                return f"({use} if {guard} else None)"
            case Apply():
                return call_source.call_value(self, expr)
            case CastTo():
                return call_source.cast_value(self, expr)
            case Collated():
                return self.value(expr.arg)
            case Logic():
                return logic_source.logic_value(self, expr)
            case IsNull():
                return logic_source.null_test(self, expr)
            case IsTruth():
                return logic_source.truth_test(self, expr)
            case IsDistinct():
                return logic_source.distinct_test(self, expr)
            case _:
                return self._more_values(expr)

    def _more_values(self, expr: Expr) -> str:
        match expr:
            case Quantified():
                return array_source.quantified_value(self, expr)
            case ArrayOf():
                return array_source.array_value(self, expr)
            case Subscript():
                return array_source.subscript_value(self, expr)
            case Coalesce():
                return logic_source.coalesce_value(self, expr)
            case Extreme():
                return logic_source.extreme_value(self, expr)
            case NullIf():
                return logic_source.null_if_value(self, expr)
            case Case():
                return logic_source.case_value(self, expr)
            case _:
                raise TypeError(f"no source for {type(expr).__name__}")

    def true(self, expr: Expr) -> str:
        """Source of a bool: whether the value is TRUE."""
        return self._test(expr, wanted=True)

    def false(self, expr: Expr) -> str:
        """Source of a bool: whether the value is FALSE."""
        return self._test(expr, wanted=False)

    def _test(self, expr: Expr, *, wanted: bool) -> str:
        match expr:
            case Const():
                return str(expr.text == ("t" if wanted else "f"))
            case ColumnRef():
                return f'({self.names.column(expr.index)} == "{"t" if wanted else "f"}")'
            case Logic():
                return logic_source.logic_test(self, expr, wanted=wanted)
            case Apply(is_strict=True) if not may_raise(expr):
                return call_source.call_test(self, expr, wanted=wanted)
            case Quantified() if not may_raise(expr):
                return array_source.quantified_test(self, expr, wanted=wanted)
            case IsNull() | IsTruth() | IsDistinct():
                return self.value(expr) if wanted else f"(not {self.value(expr)})"
            case _:
                return f"({self.value(expr)} is {wanted})"


_GLOBALS: Final[dict[str, Any]] = {
    "Decimal": Decimal,
    "array_order": array_order,
    "timestamp_of_date": timestamp_of_date,
    "RowError": RowError,
}
"""The names that source may use besides its constants, its temporaries, the row and builtins."""

_TEST: Final = """\
def factory({constants}):
    def matches(r):
        try:
            return {test}
        except RowError:
            return False
    return matches
"""
_VALUE: Final = """\
def factory({constants}):
    return lambda r: {value}
"""


def compile_test(expr: Expr, rules: CollationRules) -> tuple[Callable[[Row], bool], str]:
    """The function that tells whether the expression is TRUE for a row, and its source."""
    emitter = Emitter(rules)
    test = emitter.true(expr)
    source = _TEST.format(constants=_parameters(emitter), test=test)
    return _factory(source)(*emitter.names.constants), source


def evaluate_constant(expr: Expr, rules: CollationRules) -> Any:
    """The value of an expression that reads no column. Raises RowError."""
    emitter = Emitter(rules)
    value = emitter.value(expr)
    return _factory(_VALUE.format(constants=_parameters(emitter), value=value))(*emitter.names.constants)(())


def _parameters(emitter: Emitter) -> str:
    return ", ".join(f"k{index}" for index in range(len(emitter.names.constants)))


_LONGEST_KEPT: Final = 4096
"""Sources up to this length are kept compiled, which takes some 10 MB at most."""


def _factory(source: str) -> Callable[..., Any]:
    return _kept_factory(source) if len(source) <= _LONGEST_KEPT else _make_factory(source)


@lru_cache(maxsize=1024)
def _kept_factory(source: str) -> Callable[..., Any]:
    return _make_factory(source)


def _make_factory(source: str) -> Callable[..., Any]:
    scope = dict(_GLOBALS)
    exec(compile(source, "<clause>", "exec"), scope)  # source is made of our templates only
    factory: Callable[..., Any] = scope["factory"]
    return factory
