"""What the analysis of a clause offers to that of its nodes, and the clause's parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from pgshapes.model.relation import Relation
from pgshapes.where.language.grammar import Node
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.tree import Expr
from pgshapes.where.pg_catalog import PgType

MAX_USED_BYTES: Final = 1_000_000
"""Of all uses of all parameters together: each use puts the value into the SQL."""


class Parameters:
    """Values by number, and the types that their uses have given them. Belongs to one analysis."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = _numbered(values)
        self.types: dict[int, PgType] = {}
        self._used_bytes = 0

    def value(self, number: int, at: int) -> str:
        """The value of `$number`. Raises Refusal."""
        value = self.values.get(number)
        if value is None:
            raise Refusal(f"parameter ${number} was not provided", at=at)
        self._used_bytes += len(value)
        if self._used_bytes > MAX_USED_BYTES:
            raise Refusal(f"parameters put more than {MAX_USED_BYTES} bytes into the clause", at=at)
        return value

    def decide(self, number: int, found: PgType, at: int) -> None:
        """Record the type that a use gives `$number`. Raises Refusal when an earlier use gave another."""
        earlier = self.types.setdefault(number, found)
        if earlier != found:
            raise Refusal(f"type conflict for ${number}: {earlier.name} and {found.name}", at=at)


def _numbered(values: Mapping[str, str]) -> dict[int, str]:
    numbered: dict[int, str] = {}
    for key, value in values.items():
        if not key.isascii() or not key.isdigit() or len(key) > 5:
            raise Refusal("Parameters can only use numbers as keys", field="params")
        numbered[int(key)] = value
        _check_text(value)
    if len(numbered) != len(values) or sorted(numbered) != list(range(1, len(numbered) + 1)):
        raise Refusal("Parameters must be numbered sequentially, starting from 1", field="params")
    return numbered


def _check_text(value: str) -> None:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise Refusal("Parameters must be valid UTF-8", field="params") from None
    if b"\0" in encoded:
        raise Refusal("Parameters must not contain NUL characters", field="params")


class Scope(Protocol):
    """The clause being analysed. Every method raises Refusal."""

    relation: Relation
    parameters: Parameters
    queryable: Collection[str] | None
    """Names of the columns that the clause may use, None for all."""

    def expr(self, node: Node) -> Expr:
        """The typed tree of a node."""

    def boolean(self, node: Node, context: str) -> Expr:
        """The typed tree of a node that must be boolean; `context` names the place in messages."""

    def cast(self, expr: Expr, target: PgType, at: int) -> Expr:
        """The expression with a cast that the client wrote."""


NodeReader = Callable[[Scope, Node, int], Expr]
"""Types one kind of node, from its fields and its byte position in the client's text."""
