"""Looking up the shapes of a large row takes steps, and so does judging its clauses one by one."""

from __future__ import annotations

import itertools

import pytest
from tests.support.seams.broken_clauses import break_clause
from tests.support.seams.routing_samples import column, inserted, live, relation, transaction

from pgshapes.model.change import Fragment
from pgshapes.routing import metering
from pgshapes.routing.delivered import DeliveredTransactions
from pgshapes.routing.metering import EXPECTED_S, Meter
from pgshapes.routing.routed import Routed
from pgshapes.routing.router import Router
from pgshapes.where.types import large_values

TABLE = relation(column("id", pk_index=0), column("n"), column("labels", "_int4"))
LABELS = "{" + ",".join(map(str, range(20_000))) + "}"


class Ticks:
    """A clock by which each look at it takes a second, so that every step is over at its first look."""

    def __init__(self) -> None:
        self.count = itertools.count()

    def __call__(self) -> float:
        return float(next(self.count))


def _router(clock: Ticks | None = None) -> Router:
    return Router(DeliveredTransactions(), meter=Meter(clock, lambda: 0.0) if clock else Meter())


def _route(router: Router, labels: str, n: str = "1") -> list[Routed]:
    """Route an insert to its end: what each step returned."""
    rest: Fragment | None = transaction(100, inserted(0, "1", n, labels, oid=TABLE.oid))
    steps = []
    while rest is not None:
        router.meter.begin_step()
        steps.append(router.route(rest))
        rest = steps[-1].rest
    return steps


def _handles(steps: list[Routed]) -> list[str]:
    return sorted(append.handle for step in steps for append in step.appends)


def test_an_array_is_read_once_however_many_look_ups_need_it() -> None:
    router = _router()
    for number in range(30):
        live(
            router,
            str(number),
            TABLE,
            where=f"n = 1 AND 7 = ANY (labels) OR id = {number} AND {number} = ANY (labels)",
        )
    before = large_values.made()
    steps = _route(router, LABELS)
    assert _handles(steps) == sorted(map(str, range(30)))
    assert large_values.made() - before == 2  # the array and its distinct items


def test_an_array_is_not_read_for_shapes_of_other_rows() -> None:
    router = _router()
    live(router, "other", TABLE, where="n = 2 AND 7 = ANY (labels)")
    before = large_values.made()
    assert _handles(_route(router, LABELS)) == []
    assert large_values.made() == before


def test_a_step_ends_after_values_were_read() -> None:
    """The next step finds them, so each step that ends has done something that is not repeated."""
    router = _router(Ticks())
    live(router, "one", TABLE, where="7 = ANY (labels)")
    live(router, "two", TABLE, where="n = 1 AND 8 = ANY (labels)")
    steps = _route(router, LABELS)
    assert len(steps) == 2
    assert _handles(steps) == ["one", "two"]


def test_shapes_are_ended_by_a_row_that_takes_too_long_to_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "EXPECTED_S", 0.001)
    assert EXPECTED_S > 1
    router = _router()
    live(router, "by element", TABLE, where="7 = ANY (labels)")
    live(router, "conditional", TABLE, where="7 = ANY (labels) AND id < n + 1")
    live(router, "by number", TABLE, where="n = 1")
    steps = _route(router, LABELS)
    assert _handles(steps) == ["by number"]
    (failure,) = [one for step in steps for one in step.failures]
    assert set(failure.handles) == {"by element", "conditional"}
    assert "may take" in str(failure.error)


def test_clauses_are_judged_in_steps_after_one_has_raised() -> None:
    """What was judged before a pause is not judged again, and the shapes have the right rows."""
    router = _router(Ticks())
    live(router, "poison", TABLE, where="id + n < 0")
    for number in range(10):
        live(router, str(number), TABLE, where=f"id + n > {number - 6}")
    break_clause(router, "poison", TypeError("on purpose"))
    steps = _route(router, "{}")
    assert _handles(steps) == sorted(str(number) for number in range(10) if number - 6 < 2)
    assert [failure.handles for step in steps for failure in step.failures] == [("poison",)]
    assert 10 < len(steps) <= 14


def test_the_texts_of_one_row_are_kept_however_large_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each of two large values would be made again for every clause."""
    monkeypatch.setattr(large_values, "_MAX_CHARACTERS", 10_000)
    router = _router()
    for number in range(5):
        live(router, str(number), TABLE, where=f"labels[{number + 1}] = {number}")
    before = large_values.made()
    assert _handles(_route(router, LABELS)) == list("01234")
    assert large_values.made() - before == 1
