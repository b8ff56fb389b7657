"""Names and operands while source is written: constants `k0`, `k1` …, temporaries `t0`, `t1` …, the row `r`;
what the writer of one kind of node may ask of the emission of the whole clause; whether evaluating may
raise.

Sources are expressions of our own making, closed in parentheses; nothing that a client wrote is ever part
of one, so clauses of one form share one code object.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from pgshapes.where.collation import Collation
from pgshapes.where.language.tree import Apply, ArrayOf, CastTo, Const, Expr, Quantified, walk
from pgshapes.where.pg_catalog import BOOL, PgType
from pgshapes.where.types.operation import Operation
from pgshapes.where.types.patterns import like, not_like
from pgshapes.where.types.registry import OPERATIONS, cast_signature, type_io

ROW: Final = "r"

_DECODERS: Final = {
    "int2": "int({})",
    "int4": "int({})",
    "int8": "int({})",
    "bool": '({} == "t")',
}
_AS_IS: Final = frozenset({"text", "varchar", "bpchar", "name", "uuid", "bytea"})


class Operand(NamedTuple):
    """An operand that may be NULL: `guard` binds it and tests that it is not; `use` is its value after
    that.
    """

    guard: str
    """"" when it cannot be NULL, `False` when it always is."""
    use: str


class Names:
    """The names that one piece of source uses, and what the constants stand for. Owned by one emission."""

    def __init__(self) -> None:
        self.constants: list[Any] = []
        self._temporaries = 0

    def bind(self, value: Any) -> str:
        """A name for a constant or function."""
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def temporary(self) -> str:
        """A fresh local name."""
        self._temporaries += 1
        return f"t{self._temporaries}"

    def column(self, index: int) -> str:
        """The text of a column in the row."""
        return f"{ROW}[{index}]"

    def decoded(self, kind: PgType, text: str) -> str:
        """The value of a text of a type."""
        if kind.name in _AS_IS or kind.kind == "e":
            return text
        if kind.name in _DECODERS:
            return _DECODERS[kind.name].format(text)
        io = type_io(kind)
        if io is None:
            raise TypeError(f"a clause cannot compute with {kind.name}")
        return f"{self.bind(io.decode)}({text})"

    def constant(self, expr: Const) -> str:
        """A constant that is not NULL."""
        assert expr.text is not None
        if expr.type.oid == BOOL:
            return "True" if expr.text == "t" else "False"
        io = type_io(expr.type)
        if io is None:
            raise TypeError(f"a clause cannot compute with {expr.type.name}")
        return self.bind(io.decode(expr.text))

    def applied(self, operation: Operation, uses: list[str]) -> str:
        """The source of an operation on values that are not NULL."""
        if operation.call is not None:
            return f"{self.bind(operation.call)}({', '.join(uses)})"
        return f"({operation.template.format(*uses)})"


def is_canonical(expr: Expr) -> bool:
    """Whether equal values of the expression's type have equal text."""
    io = type_io(expr.type)
    return io is not None and io.is_canonical


class Emission(Protocol):
    """Source of one clause. `value` makes a value or None; `true` and `false` test for TRUE and FALSE.

    Tests are cheaper, but they stop early: where an operand may raise an error, a value is made in
    Postgres's own order of evaluation and then tested.
    """

    names: Names

    def value(self, expr: Expr) -> str:
        """Source of the value, None for NULL."""

    def true(self, expr: Expr) -> str:
        """Source of a bool: whether the value is TRUE."""

    def false(self, expr: Expr) -> str:
        """Source of a bool: whether the value is FALSE."""

    def operand(self, expr: Expr) -> Operand:
        """The expression as an operand of something strict."""

    def operation(self, signature: str) -> Operation:
        """How the server's version carries an operator, function or cast out."""

    @property
    def server_version(self) -> int:
        """`server_version_num`, 0 for the newest."""

    def collation(self, expr: Expr) -> Collation | None:
        """The collation that an operation works by."""


def may_raise(expr: Expr) -> bool:
    """Whether any part of the expression may raise RowError."""
    return any(_raises_itself(node) for node in walk(expr))


def _raises_itself(node: Expr) -> bool:
    match node:
        case Apply() if is_constant_match(node):
            return False
        case Apply(signature=signature) | Quantified(signature=signature):
            return OPERATIONS[signature].can_raise
        case CastTo(function=function):
            target = node.type.element or node.type
            name = cast_signature(function.removeprefix("array:"), target)
            return bool(node.modifier) or (name in OPERATIONS and OPERATIONS[name].can_raise)
        case ArrayOf(items=items):
            return any(item.type.is_array for item in items)
        case _:
            return False


_MATCHES: Final = (like, not_like)


def is_match(expr: Apply) -> bool:
    """Whether the call is LIKE, ILIKE or the negation of one."""
    return OPERATIONS[expr.signature].call in _MATCHES


def is_constant_match(expr: Apply) -> bool:
    """Whether the call is a match with a constant pattern."""
    return is_match(expr) and isinstance(expr.args[1], Const)
