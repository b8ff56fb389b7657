"""Routes rows to shapes of many clauses, and compares what each gets with the results of its clause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.support.seams.routing_samples import (
    OLD_SNAPSHOT,
    deleted,
    inserted,
    parsed,
    transaction,
    updated,
)

from pgshapes.model.change import Change, Row
from pgshapes.model.relation import Relation
from pgshapes.model.shape import ShapeDefinition
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.projection import Origin
from pgshapes.routing.routed import Routed
from pgshapes.routing.routed_shape import Collected
from pgshapes.routing.router import Router
from pgshapes.where.clause import Clause

Judged = tuple[Clause, list[bool]]
"""A clause and whether each row matches it."""

_Operations = list[tuple[int, str]]
"""The messages of a shape: op number and operation."""


class _Router(Router):
    """Notes what raised in the index; the router itself then gets along without it."""

    def __init__(self) -> None:
        super().__init__(DeliveredTransactions())
        self.raised: list[Exception] = []

    def _collect_each(self, change: Change, origin: Origin, collected: Collected, error: Exception) -> bool:
        self.raised.append(error)
        return super()._collect_each(change, origin, collected, error)


def differences_in_routing(relation: Relation, rows: Sequence[Row], judged: Sequence[Judged]) -> list[str]:
    """How what the shapes get differs from what their clauses say; nothing if it does not."""
    router = _router(relation, judged)
    found = []
    for changes, expected in (
        ([inserted(2 * n, *row, oid=relation.oid) for n, row in enumerate(rows)], _of_inserts),
        ([deleted(2 * n, *row, oid=relation.oid) for n, row in enumerate(rows)], _of_deletes),
        (list(_updates(relation, rows)), _of_updates),
    ):
        routed = router.route(transaction(router.delivered.last_commit_lsn + 100, *changes))
        found += [f"{failure.error!r} in {failure.shapes[0].definition.where}" for failure in routed.failures]
        found += [f"{error!r} in the index" for error in router.raised]
        router.raised.clear()
        operations = _operations(routed)
        for number, (clause, results) in enumerate(judged):
            theirs, wanted = operations.get(str(number), []), expected(results)
            if theirs != wanted:
                found.append(f"routed {theirs}, not {wanted}: {clause.sql}")
    return found


def _router(relation: Relation, judged: Iterable[Judged]) -> _Router:
    router = _Router()
    names = tuple(sorted(column.name for column in relation.columns))
    for number, (clause, _) in enumerate(judged):
        made = ShapeDefinition(
            (relation.oid,), relation.schema, relation.name, relation.key_columns, names,
            clause.sql, True, "default", "full",
        )  # fmt: skip
        router.register(str(number), relation, made, clause)
        router.release(str(number), OLD_SNAPSHOT)
    return router


def _updates(relation: Relation, rows: Sequence[Row]) -> Iterable[Change]:
    """Of one row, which has the values of each row in turn; no clause reads its id."""
    same = [("1", *row[1:]) for row in rows]
    for number, (old, new) in enumerate(pairwise(same)):
        yield updated(2 * number, old, new, oid=relation.oid)


def _operations(routed: Routed) -> dict[str, _Operations]:
    found: dict[str, _Operations] = {}
    for append in routed.appends:
        for message in map(parsed, append.entries):
            headers = message["headers"]
            found.setdefault(append.handle, []).append((headers["op_position"], headers["operation"]))
    return found


def _of_inserts(results: list[bool]) -> _Operations:
    return [(2 * number, "insert") for number, matches in enumerate(results) if matches]


def _of_deletes(results: list[bool]) -> _Operations:
    return [(2 * number, "delete") for number, matches in enumerate(results) if matches]


def _of_updates(results: list[bool]) -> _Operations:
    words = {(True, True): "update", (True, False): "delete", (False, True): "insert"}
    pairs = enumerate(pairwise(results))
    return [(2 * number, words[pair]) for number, pair in pairs if pair in words]
