"""A clause made ready to judge rows. Immutable; owned by whoever compiled it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgshapes.model.change import Row
from pgshapes.where.codegen.compiled import compile_test
from pgshapes.where.index_plan import IndexPlan, index_plan
from pgshapes.where.language.collation_rules import CollationRules
from pgshapes.where.language.tree import Expr


class Predicate:
    """Judges rows: the texts of all columns of the relation, in its order."""

    __slots__ = ("matches", "matches_many", "plan", "source", "sql")

    matches: Callable[[Row], bool]
    """Whether the clause is TRUE for a row; False where it is FALSE, NULL, or would raise an error in
    Postgres.
    """
    matches_many: Callable[[Sequence[Row]], list[bool]]
    """`matches` of each row."""
    plan: IndexPlan
    """How matching rows can be looked up by value."""

    def __init__(self, sql: str, folded: Expr, rules: CollationRules) -> None:
        self.sql = sql
        self.matches, self.matches_many, self.source = compile_test(folded, rules)
        self.plan = index_plan(folded)
