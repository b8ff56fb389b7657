"""What the analysis of one kind of node may ask of the analysis of the whole clause."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from pgshapes.model.relation import Relation
from pgshapes.where.language.grammar import Node
from pgshapes.where.language.parameters import Parameters
from pgshapes.where.language.tree import Expr
from pgshapes.where.pg_catalog import PgType


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
