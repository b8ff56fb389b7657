"""What the emission of one kind of node may ask of the emission of the whole clause."""

from __future__ import annotations

from typing import Protocol

from pgshapes.where.codegen.writer import Names, Operand
from pgshapes.where.collation import Collation
from pgshapes.where.language.tree import Expr
from pgshapes.where.types.operation import Operation


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

    def operation(self, function: str) -> Operation:
        """How the server's version carries an operator or function out."""

    @property
    def server_version(self) -> int:
        """`server_version_num`, 0 for the newest."""

    def cast(self, function: str) -> Operation:
        """How the server's version carries a cast out."""

    def collation(self, expr: Expr) -> Collation | None:
        """The collation that an operation works by."""
