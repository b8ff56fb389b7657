"""What the analysis of one kind of node may ask of the analysis of the whole clause, and the parameters'
values and types that all its nodes share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from pgshapes.model.relation import Relation
from pgshapes.where.language.grammar import Node
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.tree import Expr
from pgshapes.where.pg_catalog import PgType

MAX_USED_BYTES: Final = 1_000_000
"""All uses of all parameters together; each use puts the value into the SQL."""


class Parameters:
    """Values by number, and what has been found out about their types. Lives as long as one analysis."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = _numbered(values)
        self.types: dict[int, PgType] = {}
        self._used_bytes = 0

    def value(self, number: int, at: int) -> str:
        """The value given for `$number`. Raises Refusal."""
        value = self.values.get(number)
        if value is None:
            raise Refusal(f"parameter ${number} was not provided", at=at)
        self._used_bytes += len(value)
        if self._used_bytes > MAX_USED_BYTES:
            raise Refusal(f"parameters put more than {MAX_USED_BYTES} bytes into the clause", at=at)
        return value

    def decide(self, number: int, found: PgType, at: int) -> None:
        """Note the type that a use gives. Raises Refusal when an earlier use gave another."""
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
    """The clause being analysed. Every method raises Refusal for what cannot be taken."""

    relation: Relation
    parameters: Parameters
    queryable: Collection[str] | None
    """Names of the columns that may be used, None for all."""

    def expr(self, node: Node) -> Expr:
        """The typed tree of a node."""

    def boolean(self, node: Node, context: str) -> Expr:
        """The typed tree of a node that must be a bool; `context` is how a message calls the place."""

    def cast(self, expr: Expr, target: PgType, at: int) -> Expr:
        """A written cast of an expression."""


NodeReader = Callable[[Scope, Node, int], Expr]
"""Reads one kind of node: its fields and its byte position in the user's text."""
