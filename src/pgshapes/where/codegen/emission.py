"""What the functions that make source share: names and operands, the interface to the emission of the whole
clause, and whether an expression may raise an error.

Constants are `k0`, `k1` …, temporaries `t0`, `t1` …, the row is `r`. Source is made of templates in this
program only, each complete in parentheses; nothing that a client wrote becomes source.
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
    """An operand that may be NULL: `guard` binds it and tests that it is not NULL, `use` is its value
    afterwards.
    """

    guard: str
    """"" for an operand that is never NULL, `False` for one that always is."""
    use: str


class Names:
    """The names in one piece of source, and the values of its constants. Belongs to one emission."""

    def __init__(self) -> None:
        self.constants: list[Any] = []
        self._temporaries = 0

    def bind(self, value: Any) -> str:
        """A new name for a constant or function."""
        self.constants.append(value)
        return f"k{len(self.constants) - 1}"

    def temporary(self) -> str:
        """A fresh local name."""
        self._temporaries += 1
        return f"t{self._temporaries}"

    def column(self, index: int) -> str:
        """Source of a column's text in the row."""
        return f"{ROW}[{index}]"

    def decoded(self, kind: PgType, text: str) -> str:
        """Source of the value of a text, `text` being source, of type `kind`."""
        if kind.name in _AS_IS or kind.kind == "e":
            return text
        if kind.name in _DECODERS:
            return _DECODERS[kind.name].format(text)
        io = type_io(kind)
        if io is None:
            raise TypeError(f"a clause cannot compute with {kind.name}")
        return f"{self.bind(io.decode)}({text})"

    def constant(self, expr: Const) -> str:
        """Source of a constant that is not NULL."""
        assert expr.text is not None
        if expr.type.oid == BOOL:
            return "True" if expr.text == "t" else "False"
        io = type_io(expr.type)
        if io is None:
            raise TypeError(f"a clause cannot compute with {expr.type.name}")
        return self.bind(io.decode(expr.text))

    def applied(self, operation: Operation, uses: list[str]) -> str:
        """Source of an operation; `uses` are sources of operands that are not NULL."""
        if operation.call is not None:
            return f"{self.bind(operation.call)}({', '.join(uses)})"
        return f"({operation.template.format(*uses)})"


def is_canonical(expr: Expr) -> bool:
    """Whether equal values of the expression's type have equal text."""
    io = type_io(expr.type)
    return io is not None and io.is_canonical


class Emission(Protocol):
    """The making of one clause's source: `value` is source of a value or None, `true` and `false` test for
    TRUE and FALSE.

    Tests are cheaper but stop early. Where an operand may raise an error, the value is computed in
    Postgres's order of evaluation and then tested.
    """

    names: Names

    def value(self, expr: Expr) -> str:
        """Source of the value, None for NULL."""

    def true(self, expr: Expr) -> str:
        """Source of a bool: whether the value is TRUE."""

    def false(self, expr: Expr) -> str:
        """Source of a bool: whether the value is FALSE."""

    def operand(self, expr: Expr) -> Operand:
        """The expression as an operand of a strict operation."""

    def operation(self, signature: str) -> Operation:
        """The operation of a signature, as the server's version has it."""

    @property
    def server_version(self) -> int:
        """`server_version_num`, 0 for the newest."""

    def collation(self, expr: Expr) -> Collation | None:
        """The collation that an operation uses."""


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
    """Whether the call is one of these with a constant pattern."""
    return is_match(expr) and isinstance(expr.args[1], Const)
