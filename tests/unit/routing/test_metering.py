"""Routing in steps gives the logs of routing at once; a clause over its budget ends its shapes only."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise

import pytest
from tests.support.seams.expensive_clauses import ExpensiveClauses
from tests.support.seams.routing_samples import (
    ITEMS,
    LEAF,
    ROOT,
    announcement,
    appended_entries,
    column,
    deleted,
    inserted,
    live,
    new_router,
    registered,
    relation,
    transaction,
    updated,
)

from pgshapes.model.change import Change, Fragment
from pgshapes.model.relation import Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.routing import clause_groups
from pgshapes.routing.metering import BURST_S, EXPECTED_S, ROW_S, SHARE, STEP_S
from pgshapes.routing.routed import Routed
from pgshapes.routing.router import Router
from pgshapes.where.types.operation import TooExpensive

Logs = dict[str, list[tuple[str, str | None, bool]]]


def _route(router: Router, fragment: Fragment, logs: Logs) -> list[Routed]:
    """Route a fragment to its end, in as many steps as it takes."""
    routed = []
    rest: Fragment | None = fragment
    while rest is not None:
        router.meter.begin_step()
        routed.append(router.route(rest))
        for append in routed[-1].appends:
            logs[append.handle] += appended_entries(Routed([append]), append.handle)
        rest = routed[-1].rest
    return routed


def _clauses(pick: random.Random, count: int) -> list[str]:
    forms = ["grade > {}", "grade < {}", "title LIKE '%{}%'", "id = 1 AND grade > {}", "id IN (1, 2)"]
    return [pick.choice(forms).format(number) for number in range(count)]


def _changes(pick: random.Random, count: int, oid: int) -> list[Change]:
    def row() -> tuple[str, str, str]:
        title = str(pick.randrange(40)) * pick.choice((1, 1, 1, 60_000))
        values = (str(pick.randrange(4)), title, str(pick.randrange(40)))
        return values if oid == ITEMS.oid else (values[2], values[0], values[1])

    makers = [
        lambda op: inserted(op, *row(), oid=oid),
        lambda op: deleted(op, *row(), oid=oid),
        lambda op: updated(op, row(), row(), oid=oid),
    ]
    return [pick.choice(makers)(2 * number) for number in range(count)]


def _with_shapes(router: Router, table: Relation, clauses: list[str | None]) -> Router:
    """The router with a shape for each clause, and one on the leaf if the table is partitioned."""
    for number, where in enumerate(clauses):
        live(router, str(number), table, where=where, leaves=() if table is ITEMS else [LEAF.oid])
        if table is ROOT:
            live(router, f"leaf {number}", LEAF, where=where)
    if table is ROOT:
        router.announce(announcement(LEAF))
    return router


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("table", [ITEMS, ROOT], ids=["table", "partitions"])
def test_steps_do_not_change_the_logs(monkeypatch: pytest.MonkeyPatch, table: Relation, seed: int) -> None:
    """Random clauses that take random times, with shapes on a leaf, too; no step is longer than it may be."""
    monkeypatch.setattr(clause_groups, "BATCH_NS", 500.0)
    pick = random.Random(seed)
    costs = {where: pick.choice((0.0, 0.0, 0.001, 0.01, 0.05)) for where in _clauses(pick, 40)}
    clauses = [None, *pick.sample(list(costs), pick.choice((3, len(costs))))]
    at_once = _with_shapes(new_router(), table, clauses)
    expensive = ExpensiveClauses(monkeypatch, lambda sql, _: costs[sql])
    in_steps = _with_shapes(expensive.router(), table, clauses)
    oid = table.oid if table is ITEMS else LEAF.oid
    whole: Logs = defaultdict(list)
    pieces: Logs = defaultdict(list)
    for lsn in (100, 200, 300):
        fragment = transaction(lsn, *_changes(pick, 20, oid))
        _route(at_once, fragment, whole)
        _route(in_steps, fragment, pieces)
    assert pieces == whole
    assert len(expensive.pauses) > 3 or len(clauses) == 4
    assert len(in_steps) == len(at_once) == len(clauses) * (1 if table is ITEMS else 2)
    costliest = max(costs.values())
    # A batch or slice of at most 32 clauses not known to be expensive is evaluated once without a pause.
    assert max(end - start for start, end in pairwise(expensive.pauses)) <= STEP_S + 33 * costliest


def test_each_clause_of_a_large_row_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was evaluated before a pause is not evaluated again after it."""
    expensive = ExpensiveClauses(monkeypatch, lambda _, __: 0.02)
    router, logs = expensive.router(), Logs()
    for number in range(50):
        logs[str(number)] = []
        live(router, str(number), where=f"grade > {number}")
    _route(router, transaction(100, inserted(0, "1", "a" * 60_000, "25")), logs)
    assert len(expensive.evaluations) == 50
    assert len(expensive.pauses) == 25
    assert [handle for handle, entries in logs.items() if entries] == [str(number) for number in range(25)]


def test_a_shape_that_comes_or_goes_during_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes gets nothing more; one that comes gets nothing of a transaction that is half delivered,
    and all of one of which nothing is.
    """
    expensive = ExpensiveClauses(monkeypatch, lambda _, __: 0.04)
    router, logs = expensive.router(), Logs(new=[], early=[], goes=[], stays=[])
    for handle, where in (("goes", "grade > 0"), ("stays", "grade > 1")):
        live(router, handle, where=where)
    large = "a" * 60_000
    router.meter.begin_step()
    first = router.route(transaction(100, inserted(0, "1", large, "9"), inserted(2, "2", large, "9")))
    assert first.rest is not None and not first.appends, "nothing is complete yet"
    registered(router, "early", where="grade > 2")
    router.release("early", SnapshotVisibility(5, 5, (), 0))
    rest: Fragment | None = first.rest
    while rest is not None and len(rest.changes) == 2:
        router.meter.begin_step()
        rest = router.route(rest).rest
    assert rest is not None
    router.unregister("goes")
    registered(router, "new", where="grade > 3")
    router.release("new", SnapshotVisibility(5, 5, (), 0))
    _route(router, rest, logs)
    assert logs["stays"] == logs["early"] == [("insert", "1", False), ("insert", "2", True)]
    assert logs["goes"] == logs["new"] == []


def test_a_clause_that_takes_too_long_for_a_row_ends_its_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured twice; all others get the change."""
    expensive = ExpensiveClauses(monkeypatch, lambda sql, _: ROW_S + 0.3 if sql == "grade > 1" else 0.0)
    router, logs = expensive.router(), Logs(expensive=[], twin=[], cheap=[])
    for handle, where in (("expensive", "grade > 1"), ("twin", "grade > 1"), ("cheap", "grade > 2")):
        live(router, handle, where=where)
    routed = _route(router, transaction(100, inserted(0, "1", "a" * 60_000, "9")), logs)
    (failure,) = [failure for one in routed for failure in one.failures]
    assert sorted(failure.handles) == ["expensive", "twin"]
    assert str(failure.error) == "the clause took 2.3 s for one row of 60,002 characters"
    assert failure.key == '"public"."items"/"1"'
    assert logs == {"expensive": [], "twin": [], "cheap": [("insert", "1", True)]}
    assert "expensive" not in router and "cheap" in router


def test_clauses_are_measured_also_after_the_columns_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is made anew then, and has the same meter."""
    expensive = ExpensiveClauses(monkeypatch, lambda _, __: ROW_S + 0.3)
    router, logs = expensive.router(), Logs(h=[])
    live(router, "h", where="grade > 1", columns=["id", "grade"])
    router.announce(announcement(relation(*ITEMS.columns, column("added"))))
    routed = _route(router, transaction(100, inserted(0, "1", "a" * 60_000, "9", "1")), logs)
    (failure,) = [failure for one in routed for failure in one.failures]
    assert failure.handles == ("h",) and isinstance(failure.error, TooExpensive)


def test_a_small_row_that_takes_long_is_measured_when_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clauses between two looks at the clock are evaluated again, one by one."""
    expensive = ExpensiveClauses(monkeypatch, lambda sql, _: 3.0 if sql == "grade > 7" else 0.0)
    router, logs = expensive.router(), Logs()
    for number in range(10):
        logs[str(number)] = []
        live(router, str(number), where=f"grade > {number}")
    routed = _route(router, transaction(100, inserted(0, "1", "a", "25")), logs)
    assert [failure.handles for one in routed for failure in one.failures] == [("7",)]
    assert [handle for handle, entries in logs.items() if not entries] == ["7"]


def test_what_other_clauses_use_too_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clause is over its budget only if it takes as long again, when large values are made."""
    first = iter([ROW_S + 1])
    expensive = ExpensiveClauses(monkeypatch, lambda _, __: next(first, 0.01))
    router, logs = expensive.router(), Logs(h=[])
    live(router, "h", where="grade > 1")
    (routed,) = _route(router, transaction(100, inserted(0, "1", "a" * 60_000, "9")), logs)
    assert not routed.failures and logs["h"]


def test_a_row_that_would_take_a_clause_too_long_is_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bound that is known from the clause, and the size of the columns that it reads."""
    expensive = ExpensiveClauses(monkeypatch, lambda _, __: 0.0)
    router, logs = expensive.router(), Logs(expensive=[], cheap=[])
    live(router, "expensive", where=" OR ".join(f"title LIKE '%a{number}%'" for number in range(700)))
    live(router, "cheap", where="grade > 1")
    (routed,) = _route(router, transaction(100, inserted(0, "1", "a" * 6_000_000, "9")), logs)
    (failure,) = routed.failures
    assert failure.handles == ("expensive",)
    assert "may take 13 s for one row of 6,000,002 characters" in str(failure.error)
    assert EXPECTED_S < 13
    assert len(expensive.evaluations) == 1 and logs["cheap"]


def test_a_clause_that_takes_too_much_of_all_time_ends_its_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row is within the budget, but there are too many of them."""
    expensive = ExpensiveClauses(monkeypatch, lambda _, __: 1.0)
    router, logs = expensive.router(), Logs(h=[])
    live(router, "h", where="grade > 1")
    large = "a" * 60_000
    done = 0
    while "h" in router:
        routed = _route(router, transaction(100 + done, inserted(0, "1", large, "9")), logs)
        done += 1
        assert done < 100
    assert done == pytest.approx(BURST_S / (1 - SHARE), abs=2)
    assert "the clause took 25% of the time, and 1.0 s for one row" in str(routed[-1].failures[0].error)


def test_a_clause_within_its_share_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expensive rows that come rarely."""
    expensive = ExpensiveClauses(monkeypatch, lambda _, __: 1.0)
    router, logs = expensive.router(), Logs(h=[])
    live(router, "h", where="grade > 1")
    for number in range(100):
        _route(router, transaction(100 + number, inserted(0, "1", "a" * 60_000, "9")), logs)
        expensive.now += 4.0
    assert len(logs["h"]) == 100


def test_a_small_row_is_continued_by_batches_of_bounded_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was begun: a step that has ended makes none of the next longer."""
    monkeypatch.setattr(clause_groups, "BATCH_NS", 1.0)
    expensive = ExpensiveClauses(monkeypatch, lambda _, __: 0.01)
    router = expensive.router()
    logs: Logs = defaultdict(list)
    for number in range(40):
        live(router, str(number), where=f"grade > {number - 60}")
    _route(router, transaction(100, inserted(0, "1", "a", "1")), logs)
    assert len(logs) == 40
    assert len(expensive.evaluations) == 40
    assert max(end - start for start, end in pairwise(expensive.pauses)) <= STEP_S + 0.011
