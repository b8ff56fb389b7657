"""How long a clause may take for one row, by the number of characters in the row: a bound that is known when
the clause is made.

The time of an operation is taken as proportional to the texts that its operands are made of. The rates are
those of the worst text that was found by measurement, on a core of 2020. What is not proportional (the
pattern of LIKE in a column, `@>` of two documents) is limited where it is computed, by `TooExpensive`. Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pgshapes.model.change import Row
from pgshapes.where.language.deparse import deparse
from pgshapes.where.language.tree import (
    Apply,
    Case,
    CastTo,
    Coalesce,
    ColumnRef,
    Const,
    Expr,
    Extreme,
    Quantified,
    Subscript,
    plain_column,
)
from pgshapes.where.pg_catalog import JSONB, PgType
from pgshapes.where.types.arrays import decode_array
from pgshapes.where.types.patterns import compile_pattern, like, not_like
from pgshapes.where.types.registry import OPERATIONS

MAX_NS: Final = 5_000.0
"""5 s for a row of a million characters, in the worst case. A search of 100 words in a text takes 1,000 ns
per character at most, a document of json 400.
"""

_DECODE_NS: Final = {"array": 300.0, "jsonb": 400.0}
"""Reading the text of a column once for each row; other types take `_PLAIN_NS`."""
_JSONB_NS: Final = 30.0
_ARRAY_NS: Final = 30.0
_CASE_NS: Final = {"lower": 40.0, "upper": 200.0}
_PLAIN_NS: Final = 3.0
_SEARCH_NS: Final = 15.0
_GAPS_NS: Final = 4.0
"""For each character of a piece that is compared at each position of the text."""
_DYNAMIC_NS: Final = 100.0
_VARIABLE: Final = frozenset({"text", "varchar", "bpchar", "bytea", "numeric", "jsonb"})
"""Types whose values may be large, and whose texts may be made larger by operations."""
_SHOWN: Final = 100

Sizes = dict[int, float]
"""Characters of a value per character of a column, by the position of the column."""


class Cost(NamedTuple):
    """The time of one evaluation, and the part that takes most of it."""

    columns: tuple[tuple[int, float], ...]
    """By position in the row, ns for each character of the column."""
    costliest: Expr | None

    @property
    def ns(self) -> float:
        """The most for each character of a row."""
        return max((ns for _, ns in self.columns), default=0.0)

    def of_row(self, row: Row) -> float:
        """The most for a row, in seconds."""
        texts = ((row[position], ns) for position, ns in self.columns)
        return sum(len(text) * ns for text, ns in texts if text is not None) / 1e9

    def __str__(self) -> str:
        shown = "" if self.costliest is None else deparse(self.costliest)
        return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"


def reading_s(kind: PgType, text: str, *, is_array: bool = False) -> float:
    """How long it may take to read the text of a column of a type, or of an array of it, in seconds."""
    return len(text) * _decode_ns(kind, is_array=is_array or kind.is_array) / 1e9


def _decode_ns(kind: PgType, *, is_array: bool) -> float:
    return _DECODE_NS.get("array" if is_array else kind.name, _PLAIN_NS)


def cost_of(expr: Expr) -> Cost:
    """The cost of an expression."""
    counted = _Count()
    counted.sizes(expr)
    return Cost(tuple(counted.ns.items()), counted.costliest)


class _Count:
    """The costs of one expression, by column: a row has the characters of all columns, so its time is that of
    the costliest column at most.
    """

    def __init__(self) -> None:
        self.ns: dict[int, float] = {}
        self.costliest: Expr | None = None
        self._largest = 0.0
        self._decoded: set[int] = set()
        self._collected: set[int] = set()

    def sizes(self, expr: Expr) -> Sizes:
        """Count the cost of an expression and of all its parts; returns the size of its value."""
        if isinstance(expr, ColumnRef):
            return self._column(expr)
        operands = [self.sizes(child) for child in expr.children]
        self._add(expr, self._operation_ns(expr), _sum(operands))
        if not _is_variable(expr.type):
            return {}
        return (
            _largest(operands) if isinstance(expr, Case | Coalesce | Extreme | Subscript) else _sum(operands)
        )

    def _column(self, expr: ColumnRef) -> Sizes:
        size = {expr.index: 1.0}
        if expr.index not in self._decoded:
            self._decoded.add(expr.index)
            self._add(expr, _decode_ns(expr.type, is_array=expr.type.is_array), size)
        return size

    def _operation_ns(self, expr: Expr) -> float:
        if isinstance(expr, Quantified) and OPERATIONS[expr.signature].equality:
            return self._items_ns(expr.array)
        return _operation_ns(expr)

    def _items_ns(self, array: Expr) -> float:
        """The distinct items of a column's array are collected once."""
        column = plain_column(array)
        if column is not None and column.index in self._collected:
            return 0.0
        if column is not None:
            self._collected.add(column.index)
        return _ARRAY_NS

    def _add(self, expr: Expr, ns: float, sizes: Sizes) -> None:
        for column, size in sizes.items():
            self.ns[column] = self.ns.get(column, 0.0) + ns * size
            if ns * size > self._largest:
                self._largest, self.costliest = ns * size, expr


def _operation_ns(expr: Expr) -> float:
    """The cost of an operation itself per character of its operands."""
    match expr:
        case Apply(args=(_, Const(text=str() as pattern))) if _is_match(expr.signature):
            return _mapping_ns(expr.signature) + _pattern_ns(pattern)
        case Quantified(array=Const(text=str() as text)) if _is_match(expr.signature):
            patterns = [item for item in decode_array(text, str).items if item is not None]
            return sum(_mapping_ns(expr.signature) + _pattern_ns(pattern) for pattern in patterns)
        case Apply(signature=signature) | Quantified(signature=signature) if _is_match(signature):
            return _mapping_ns(signature) + _DYNAMIC_NS
        case Apply(signature=signature) if signature.startswith(tuple(_CASE_NS)):
            return _CASE_NS[signature.partition("(")[0]]
        case Const() | Case() | Coalesce() | CastTo(function="relabel"):
            return 0.0
        case Apply(name="->" | "->>" | "#>" | "#>>"):
            return _PLAIN_NS
        case _:
            return max((_type_ns(child.type) for child in expr.children), default=0.0)


def _is_match(signature: str) -> bool:
    return OPERATIONS[signature].call in (like, not_like)


def _mapping_ns(signature: str) -> float:
    return _CASE_NS["lower"] if OPERATIONS[signature].case_mapping is not None else 0.0


def _pattern_ns(pattern: str) -> float:
    compiled = compile_pattern(pattern)
    return _PLAIN_NS if compiled.test is None else _SEARCH_NS + _GAPS_NS * compiled.searched


def _type_ns(kind: PgType) -> float:
    if kind.is_array:
        return _ARRAY_NS
    return _JSONB_NS if kind.oid == JSONB else _PLAIN_NS


def _is_variable(kind: PgType) -> bool:
    return kind.is_array or kind.name in _VARIABLE


def _sum(sizes: list[Sizes]) -> Sizes:
    total: Sizes = {}
    for one in sizes:
        for column, size in one.items():
            total[column] = total.get(column, 0.0) + size
    return total


def _largest(sizes: list[Sizes]) -> Sizes:
    largest: Sizes = {}
    for one in sizes:
        for column, size in one.items():
            largest[column] = max(largest.get(column, 0.0), size)
    return largest
