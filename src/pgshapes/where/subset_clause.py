"""The clause of a subset snapshot (http-api §7.2): the same language, judged by Postgres alone.

No row of a subset is ever judged here, so what only Postgres does exactly (texts ordered by the database's
collation, its case rules) is allowed. Everything else is as for a shape's clause: the allow-list, the types,
SQL that is rebuilt from the tree. Subqueries are never allowed. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pgshapes.model.relation import Relation
from pgshapes.where.clause import PreparedClause
from pgshapes.where.language.analysis import Analysis
from pgshapes.where.language.grammar import parse_clause
from pgshapes.where.language.refusal import Refusal
from pgshapes.where.language.scope import Parameters


def prepare_subset_clause(
    text: str, params: Mapping[str, str], relation: Relation, *, queryable: Collection[str]
) -> PreparedClause:
    """A client's clause, understood; the server has to confirm it. Raises RequestError about `where` or
    `params`.
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
