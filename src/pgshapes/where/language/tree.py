"""The typed tree of a clause: the result of the analysis, from which SQL and Python source are made.

Every implicit cast is a node, every literal has its type, every operator and function is the overload that
Postgres would choose. Nodes are immutable. Trees are compared by the SQL they deparse to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Final

from pgshapes.where.collation import Collation
from pgshapes.where.pg_catalog import PgType


@dataclass(frozen=True, slots=True)
class Expr:
    """An expression: its type and its byte position in the client's text."""

    type: PgType
    at: int

    @property
    def children(self) -> tuple[Expr, ...]:
        """Direct operands, in the order in which Postgres evaluates them."""
        return ()


@dataclass(frozen=True, slots=True)
class Const(Expr):
    """A literal or the value of a parameter, as the type's output function writes it; None is NULL."""

    text: str | None


@dataclass(frozen=True, slots=True)
class Unknown(Expr):
    """A string literal, NULL or parameter whose type is not known yet. Occurs during the analysis only."""

    text: str | None
    parameter: int | None = None


@dataclass(frozen=True, slots=True)
class ColumnRef(Expr):
    """A column; `type` is the base type for a column of a domain, to which `is_domain` casts it."""

    index: int
    name: str
    collation: Collation | None
    is_domain: bool = False


@dataclass(frozen=True, slots=True)
class Apply(Expr):
    """An operator or function call. `signature` is that of the overload, as `pg_catalog.py` has it."""

    name: str
    signature: str
    args: tuple[Expr, ...]
    is_operator: bool
    is_strict: bool = True
    is_polymorphic: bool = False

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.args


@dataclass(frozen=True, slots=True)
class CastTo(Expr):
    """A cast. `function` names the conversion: `relabel`, `io`, `<source>::<target>` of type names, the same
    for items as `array:…`, or `length` for the modifier alone.
    """

    arg: Expr
    function: str
    modifier: tuple[int, ...] = ()

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)


class Connective(Enum):
    """How a `Logic` node joins its operands; the value is the SQL word."""

    AND = "AND"
    OR = "OR"
    NOT = "NOT"


@dataclass(frozen=True, slots=True)
class Logic(Expr):
    """AND and OR of two or more, NOT of one; three-valued."""

    connective: Connective
    args: tuple[Expr, ...]

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.args


@dataclass(frozen=True, slots=True)
class IsNull(Expr):
    """`arg IS [NOT] NULL`."""

    arg: Expr
    negated: bool

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)


@dataclass(frozen=True, slots=True)
class IsTruth(Expr):
    """`arg IS [NOT] TRUE | FALSE | UNKNOWN`; `truth` is True, False, None."""

    arg: Expr
    truth: bool | None
    negated: bool

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)


@dataclass(frozen=True, slots=True)
class IsDistinct(Expr):
    """`left IS [NOT] DISTINCT FROM right`; `equality` is the signature of the `=` that compares them."""

    equality: str
    left: Expr
    right: Expr
    negated: bool

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class NullIf(Expr):
    """`NULLIF(left, right)`."""

    equality: str
    left: Expr
    right: Expr

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class Quantified(Expr):
    """`left op ANY (array)` or `left op ALL (array)`; IN lists of constants are the former."""

    operator: str
    signature: str
    left: Expr
    array: Expr
    is_any: bool
    is_polymorphic: bool

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.left, self.array)


@dataclass(frozen=True, slots=True)
class ArrayOf(Expr):
    """`ARRAY[…]`; its items are elements, or arrays of the array's own type."""

    items: tuple[Expr, ...]

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.items


@dataclass(frozen=True, slots=True)
class Subscript(Expr):
    """`array[i][j]` or, with `is_slice`, `array[l:u]…`; a bound that is left out is None."""

    array: Expr
    lower: tuple[Expr | None, ...]
    upper: tuple[Expr | None, ...]
    is_slice: bool

    @property
    def children(self) -> tuple[Expr, ...]:
        bounds = [bound for pair in zip(self.lower, self.upper, strict=True) for bound in pair]
        return (self.array, *(bound for bound in bounds if bound is not None))


@dataclass(frozen=True, slots=True)
class Coalesce(Expr):
    """`COALESCE(…)`."""

    args: tuple[Expr, ...]

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.args


@dataclass(frozen=True, slots=True)
class Extreme(Expr):
    """`GREATEST(…)` or `LEAST(…)`."""

    args: tuple[Expr, ...]
    is_greatest: bool

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.args


@dataclass(frozen=True, slots=True)
class Case(Expr):
    """`CASE WHEN … THEN … ELSE … END`; a simple CASE has been turned into comparisons."""

    whens: tuple[tuple[Expr, Expr], ...]
    default: Expr

    @property
    def children(self) -> tuple[Expr, ...]:
        return (*(part for when in self.whens for part in when), self.default)


@dataclass(frozen=True, slots=True)
class Collated(Expr):
    """`arg COLLATE "name"`."""

    arg: Expr
    collation: Collation

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)


def walk(expr: Expr) -> Iterator[Expr]:
    """The node and all below it, parents first."""
    pending = [expr]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(node.children))


def map_children(expr: Expr, function: Callable[[Expr], Expr]) -> Expr:
    """The node with `function` applied to each direct operand; the node itself if none changes."""
    if not expr.children:
        return expr
    names = _operand_fields(type(expr))
    before = [getattr(expr, name) for name in names]
    after = [_map(value, function) for value in before]
    if all(new is old for new, old in zip(after, before, strict=True)):
        return expr
    return replace(expr, **dict(zip(names, after, strict=True)))


def _operand_fields(kind: type[Expr]) -> tuple[str, ...]:
    names = _FIELDS.get(kind)
    if names is None:
        names = tuple(field.name for field in fields(kind) if field.name not in ("type", "at"))
        _FIELDS[kind] = names
    return names


_FIELDS: Final[dict[type[Expr], tuple[str, ...]]] = {}


def _map(value: Any, function: Callable[[Expr], Expr]) -> Any:
    if isinstance(value, Expr):
        return function(value)
    if isinstance(value, tuple) and type(value) is tuple:
        mapped = tuple(_map(item, function) for item in value)
        return value if all(new is old for new, old in zip(mapped, value, strict=True)) else mapped
    return value


def plain_column(expr: Expr) -> ColumnRef | None:
    """The column that an expression is, apart from casts that do not change the value; else None."""
    while isinstance(expr, CastTo) and expr.function == "relabel":
        expr = expr.arg
    return expr if isinstance(expr, ColumnRef) else None
