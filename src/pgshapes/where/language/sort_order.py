"""A client's `order_by` → the columns to sort by.

Only plain columns are accepted. Invariant: the result holds names of the relation's columns and flags, no
text of the client's. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from pgshapes.model.relation import Relation
from pgshapes.where.language.grammar import Node, location_in_sort_order, parse_sort_order
from pgshapes.where.language.refusal import Refusal

MAX_TERMS: Final = 100
"""Postgres itself sorts by at most 1,664 columns."""

_IS_DESCENDING: Final = {"SORTBY_DEFAULT": False, "SORTBY_ASC": False, "SORTBY_DESC": True}
_NULLS_FIRST: Final = {"SORTBY_NULLS_FIRST": True, "SORTBY_NULLS_LAST": False}


class SortTerm(NamedTuple):
    """One column to sort by."""

    column: str
    is_descending: bool
    nulls_first: bool | None
    """None for the default of the direction."""


def parse_order_by(text: str, relation: Relation, *, queryable: Collection[str]) -> tuple[SortTerm, ...]:
    """The terms in order. Raises RequestError about `order_by`."""
    try:
        terms = parse_sort_order(text)
        if len(terms) > MAX_TERMS:
            raise Refusal(f"ORDER BY has more than {MAX_TERMS} parts")
        return tuple(_term(term, relation, queryable) for term in terms)
    except Refusal as refusal:
        raise Refusal(refusal.text, at=refusal.at, field="order_by").as_request_error() from None


def _term(term: Node, relation: Relation, queryable: Collection[str]) -> SortTerm:
    column = _column(term["node"], relation, queryable)
    is_descending = _IS_DESCENDING.get(term["sortby_dir"])
    if is_descending is None:
        raise Refusal("USING is not supported in ORDER BY clauses", at=_location(term))
    return SortTerm(column, is_descending, _NULLS_FIRST.get(term["sortby_nulls"]))


def _column(node: Node, relation: Relation, queryable: Collection[str]) -> str:
    ((kind, fields),) = node.items()
    at = _location(fields)
    if kind == "ParamRef":
        raise Refusal(f"parameter ${fields.get('number', 0)} is not supported in ORDER BY clauses", at=at)
    if kind != "ColumnRef":
        raise Refusal(f"{kind} expressions are not allowed in ORDER BY clauses", at=at)
    parts: list[str] = [part.get("String", {}).get("sval", "*") for part in fields["fields"]]
    name = ".".join(parts)
    if len(parts) != 1 or name not in relation.column_index or name not in queryable:
        raise Refusal(f"unknown reference {name}", at=at)
    return name


def _location(fields: Node) -> int:
    return location_in_sort_order(fields.get("location", 0))
