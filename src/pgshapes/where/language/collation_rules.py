"""Which collation an operation uses, and the refusal of operations whose collation is not known well enough
(manual: Collation Support).

Transcribes the derivation of `parse_collate.c`: an explicit COLLATE wins, else the columns' collation, else
the database's. Two columns of different collations have none.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from pgshapes.model.relation import Relation
from pgshapes.where.collation import Collation
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.tree import (
    Apply,
    Collated,
    ColumnRef,
    Expr,
    Extreme,
    IsDistinct,
    NullIf,
    Quantified,
    walk,
)
from pgshapes.where.types.registry import OPERATIONS


class Server(NamedTuple):
    """The properties of a server that evaluation depends on."""

    collation: Collation | None
    """The collation of the database, which literals have; None if it is not known."""
    version: int
    """`server_version_num`, 0 for the newest."""


def server_of(relation: Relation) -> Server:
    """The server that a relation belongs to."""
    locale, provider = relation.database_collation, relation.database_collation_provider
    return Server(None if locale is None else Collation(locale, provider), relation.server_version)


class Strength(Enum):
    """Where a collation comes from; the higher value wins."""

    NONE = 0
    DATABASE = 1
    COLUMN = 2
    CONFLICT = 3
    WRITTEN = 4


Derived = tuple[Strength, Collation | None]

_NONE: Final[Derived] = (Strength.NONE, None)


class CollationRules:
    """Derives the collations in one clause for one server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def derive(self, expr: Expr) -> Derived:
        """The collation of an expression's value."""
        if not expr.type.is_collatable:
            return _NONE
        if isinstance(expr, Collated):
            return Strength.WRITTEN, expr.collation
        if isinstance(expr, ColumnRef):
            return Strength.COLUMN, expr.collation
        derived = self._merge(expr.children)
        return (Strength.DATABASE, self.server.collation) if derived == _NONE else derived

    def of_operation(self, expr: Expr) -> Collation | None:
        """The collation that an operation uses, None if it is not known. Raises Refusal."""
        strength, collation = self._merge(expr.children)
        if strength is Strength.CONFLICT:
            raise Refusal("could not determine which collation to use", at=expr.at)
        return collation

    def check(self, clause: Expr) -> None:
        """Raises Refusal for an operation that needs more of its collation than is known here."""
        for expr in walk(clause):
            need = _need(expr)
            if need and any(_is_text(child) for child in expr.children):
                _check(need, self.of_operation(expr), expr)

    def _merge(self, exprs: tuple[Expr, ...]) -> Derived:
        merged = _NONE
        for expr in exprs:
            merged = _stronger(merged, self.derive(expr))
        return merged


def _stronger(left: Derived, right: Derived) -> Derived:
    if left[0] is not right[0]:
        return left if left[0].value > right[0].value else right
    if left[1] == right[1]:
        return left
    return (Strength.CONFLICT, None)


def _is_text(expr: Expr) -> bool:
    return expr.type.is_collatable


def _need(expr: Expr) -> str:
    match expr:
        case Apply(signature=signature) | Quantified(signature=signature):
            return OPERATIONS[signature].collation
        case IsDistinct() | NullIf():
            return "equal"
        case Extreme():
            return "order"
        case _:
            return ""


def _check(need: str, collation: Collation | None, expr: Expr) -> None:
    if collation is not None and not collation.is_deterministic:
        raise Refusal("nondeterministic collations are not supported", at=expr.at)
    if need == "order" and (collation is None or not collation.is_byte_order):
        shown = "the database's" if collation is None else f'"{collation.locale}"'
        raise Refusal(
            f'text is only ordered by the collation "C", not by {shown}: write … COLLATE "C"', at=expr.at
        )
    if need == "case" and (collation is None or not collation.folds_ascii_plainly):
        shown = (
            "of the database is not known" if collation is None else f'"{collation.locale}" is not supported'
        )
        raise Refusal(f'the case rules of the collation {shown}: write … COLLATE "C"', at=expr.at)
