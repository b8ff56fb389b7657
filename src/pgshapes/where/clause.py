"""A WHERE clause, from a client's text to a predicate over rows.

`prepare_clause` parses the text, checks it against the allow-list and resolves its types. The user's own
server then describes `authority_sql`, and `confirm` compares its types with ours. Only a confirmed clause is
compiled or sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from pgshapes.errors import RequestError
from pgshapes.model.change import Row
from pgshapes.model.quoting import qualified_name
from pgshapes.model.relation import Relation
from pgshapes.where.codegen.compiled import compile_test
from pgshapes.where.codegen.constant_folding import Folding
from pgshapes.where.cost import MAX_NS, Cost, cost_of
from pgshapes.where.index_plan import IndexPlan, index_plan
from pgshapes.where.language.analysis import Analysis
from pgshapes.where.language.collation_rules import CollationRules, server_of
from pgshapes.where.language.deparse import deparse
from pgshapes.where.language.grammar import parse_clause
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.scope import Parameters
from pgshapes.where.language.tree import Apply, CastTo, ColumnRef, Expr, walk
from pgshapes.where.pg_catalog import BOOL, PgType

_MAX_DESCRIBED: Final = 200
"""How many expressions the server describes at most; the clause itself is always one of them."""


_REMEMBERED: Final = 16
"""Clauses that were read back from their SQL: what checks a definition does it just before its creation."""


class Predicate:
    """A compiled clause. Immutable. A row is the texts of all columns of the relation, in its order."""

    __slots__ = ("cost", "matches", "plan", "source", "sql")

    matches: Callable[[Row], bool]
    """Whether the clause is TRUE for a row. False where it is FALSE or NULL, and where Postgres would raise
    an error.
    """
    plan: IndexPlan
    """How matching rows can be looked up by value."""
    cost: Cost
    """How long `matches` may take."""

    def __init__(self, sql: str, folded: Expr, rules: CollationRules) -> None:
        self.sql = sql
        self.matches, self.source = compile_test(folded, rules)
        self.plan = index_plan(folded)
        self.cost = cost_of(folded)


class Clause:
    """A clause whose types the server has confirmed, now or before a restart."""

    __slots__ = ("_folded", "_predicate", "_relation", "columns", "sql")

    def __init__(self, sql: str, tree: Expr, folded: Expr, relation: Relation) -> None:
        self.sql = sql
        """Normalised SQL, complete as an expression; the identity of the clause."""
        self.columns = frozenset(node.name for node in walk(tree) if isinstance(node, ColumnRef))
        """Names of the columns that it reads."""
        self._folded = folded
        self._relation = relation
        self._predicate: Predicate | None = None

    @property
    def cost(self) -> Cost:
        """How long the clause may take for a row. It need not be compiled for this."""
        return cost_of(self._folded)

    def compile(self, relation: Relation) -> Predicate:
        """The predicate over rows of `relation`, compiled once. Columns are found by name. Raises
        RequestError when a type has changed.
        """
        if relation is not self._relation and relation != self._relation:
            return clause_from_sql(self.sql, relation).compile(relation)
        if self._predicate is None:
            rules = CollationRules(server_of(relation))
            self._predicate = Predicate(self.sql, self._folded, rules)
        return self._predicate


class PreparedClause:
    """A clause that was parsed and typed here and that the server has not confirmed yet."""

    def __init__(self, tree: Expr, folded: Expr, relation: Relation) -> None:
        self._clause = Clause(deparse(tree), tree, folded, relation)
        self._relation = relation
        self._described = _described(tree)
        columns = ", ".join(deparse(expr) for expr in self._described)
        table = qualified_name(relation.schema, relation.name)
        self.authority_sql = f"SELECT {columns} FROM {table}"
        """A statement for the user's server to prepare, not to run; `confirm` takes the types of its result
        columns.
        """

    @property
    def sql(self) -> str:
        """Normalised SQL, as that of the clause once it is confirmed."""
        return self._clause.sql

    def require_evaluable(self) -> None:
        """Read the clause back from its SQL, as its creation and every restart do, and compile that. Raises
        Refusal for what cannot be evaluated exactly as Postgres does, not in reasonable time, or cannot be
        read back.
        """
        _require_affordable(self._clause.cost)
        try:
            tree, clause = _read_back(self.sql, self._relation)
            clause.compile(self._relation)
        except Refusal as refusal:
            self._clause.compile(self._relation)  # its errors tell positions in the text of the client
            raise Refusal(f"{refusal.text} once all casts are written out; simplify it") from None
        if deparse(tree) != self.sql:
            raise Refusal("WHERE clause has no canonical form; write it in another way")
        self._clause = clause

    def confirm(self, described: Sequence[int]) -> Clause:
        """The clause, if the type oids in `described` are those found here. Raises RequestError."""
        expected = [expr.type for expr in self._described]
        if len(described) != len(expected):
            raise RequestError.field("where", "the server describes the clause differently")
        for expr, kind, oid in zip(self._described, expected, described, strict=True):
            if not _agrees(kind, oid):
                text = f"At location {expr.at}: the server takes this expression to be of another type"
                raise RequestError.field("where", text)
        return self._clause


def _require_affordable(cost: Cost) -> None:
    """Raise Refusal for a clause that may take too long for a row."""
    if cost.ns > MAX_NS:
        raise Refusal(
            f"WHERE clause may take {cost.ns / 1000:,.1f} s for a row of a million characters, and"
            f" {MAX_NS / 1000:,.0f} s are allowed; the part that takes most of it is {cost}",
            at=cost.costliest.at if cost.costliest is not None else None,
        )


def prepare_clause(
    text: str,
    params: Mapping[str, str],
    relation: Relation,
    *,
    queryable: Collection[str] | None = None,
) -> PreparedClause:
    """A client's clause, parsed and typed. Raises RequestError about `where` or `params`."""
    try:
        tree, folded = _understand(text, params, relation, queryable)
        prepared = PreparedClause(tree, folded, relation)
        prepared.require_evaluable()
    except Refusal as refusal:
        raise refusal.as_request_error() from None
    return prepared


def clause_from_sql(sql: str, relation: Relation) -> Clause:
    """A clause from its own normalised SQL. Raises RequestError when the relation no longer has what it
    needs.
    """
    try:
        _, clause = _read_back(sql, relation)
        clause.compile(relation)
    except Refusal as refusal:
        raise refusal.as_request_error() from None
    return clause


@lru_cache(_REMEMBERED)
def _read_back(sql: str, relation: Relation) -> tuple[Expr, Clause]:
    """The tree and the clause of a normalised SQL. Raises Refusal."""
    tree, folded = _understand(sql, {}, relation, None)
    return tree, Clause(sql, tree, folded, relation)


def _understand(
    text: str, params: Mapping[str, str], relation: Relation, queryable: Collection[str] | None
) -> tuple[Expr, Expr]:
    """The typed tree, and the same with its constants folded. Raises Refusal."""
    node = parse_clause(text)
    tree = Analysis(relation, Parameters(params), queryable).clause(node)
    rules = CollationRules(server_of(relation))
    rules.check(tree)
    return tree, Folding(rules).fold(tree)


def _described(tree: Expr) -> list[Expr]:
    """The clause, its columns, and its subexpressions that are not boolean."""
    seen: dict[str, Expr] = {}
    for node in walk(tree):
        if (
            len(seen) < _MAX_DESCRIBED
            and isinstance(node, ColumnRef | Apply | CastTo)
            and node.type.oid != BOOL
        ):
            seen.setdefault(deparse(node), node)
    return [tree, *seen.values()]


def _agrees(kind: PgType, oid: int) -> bool:
    return kind.oid == oid or (kind.element is not None and kind.element.kind == "e")


def prepare_subset_clause(
    text: str, params: Mapping[str, str], relation: Relation, *, queryable: Collection[str]
) -> PreparedClause:
    """The clause of a subset, parsed and typed. Raises RequestError about `where` or `params`.

    It is never evaluated here, only by Postgres, so operations that depend on collations unknown here are
    allowed: text ordered by the database's collation, its case rules. All else is as for the clause of a
    shape, except that subqueries will never be allowed.
    """
    try:
        node = parse_clause(text)
        if _has_subquery(node):
            raise Refusal("Subqueries are not allowed in subsets")
        tree = Analysis(relation, Parameters(params), queryable).clause(node)
    except Refusal as refusal:
        raise refusal.as_request_error() from None
    return PreparedClause(tree, tree, relation)


def _has_subquery(node: Any) -> bool:
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "SubLink" in part:
                return True
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return False
