"""Who is let in, and whom a slow creation holds up."""

from __future__ import annotations

import json
from collections import Counter

from tests.support.clients.herd import CREATE, RESOLVE, Stage
from tests.system.herd.held_up import lock, shapes_of, wide_table

CALLERS = 400
LIMIT = 300


def test_callers_of_different_fresh_shapes_are_refused_beyond_the_limit(house: Stage) -> None:
    """Each is work; the excess costs the owner nothing and comes back spread over time. Processes that count
    at the same moment may each let one in too many, or refuse one too early.
    """
    table = house.table()
    refused_before = house.metric("admission_refused_total", kind="initial")
    paths = [house.path(table, where=f"id > {number}") for number in range(CALLERS)]
    with house.clients() as clients, house.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask(paths)
        house.until(
            lambda: (
                house.metric("admission_refused_total", kind="initial") - refused_before
                >= CALLERS - LIMIT - house.workers
            ),
            "a hundred refusals",
        )
        house.until(
            lambda: house.metric("admission_in_use", kind="initial") >= LIMIT - house.workers, "a full house"
        )
        house.until(lambda: house.calls(CREATE, table) >= LIMIT - house.workers, "calls of the others")
        writer.rollback()
        answers = clients.collect()
    admitted = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 503]
    assert len(admitted) + len(refused) == CALLERS
    assert abs(len(admitted) - LIMIT) <= house.workers
    assert house.calls(CREATE, table) == len(admitted) == house.snapshot_queries(table)
    assert house.calls(RESOLVE, table) == len(admitted)
    for answer in refused:
        assert json.loads(answer.text)["code"] == "concurrent_request_limit_exceeded"
    comes_back = Counter(answer.retry_after for answer in refused)
    assert len(comes_back) >= 3
    assert max(comes_back.values()) < len(refused) * 0.75
    house.wait_for("admission_in_use", 0)


def test_old_writers_of_a_table_delay_no_other_shape(house: Stage) -> None:
    """More creations than the limit wait for one table; another table's shapes are created and known ones
    served, while all of them still wait.
    """
    known, other, held = house.table(), house.table(), house.table()
    with house.clients() as clients, house.clients() as slow, house.session() as writer:
        clients.ask([house.path(known)])
        assert clients.collect()[0].status == 200
        writer.execute(f"INSERT INTO {held} VALUES (0)")
        slow.ask([house.path(held, where=f"id > {number}") for number in range(150)])
        house.wait_for("creations_now", 150)
        house.until(lambda: house.metric("creations_in_progress") == 0, "places that are given up")
        clients.ask([house.path(known), house.path(other), house.path(other, where="id > 5")])
        assert [answer.status for answer in clients.collect()] == [200, 200, 200]
        assert house.metric("creations_now") == 150
        writer.rollback()
        assert {answer.status for answer in slow.collect()} == {200}


def test_a_locked_table_delays_no_other_shape(house: Stage) -> None:
    """Snapshots and clauses that wait for a lock keep connections, but not those of others."""
    known, other, held = house.table(), house.table(), wide_table(house, 40)
    failed_before = house.metric("creations_failed_total")
    with house.clients() as clients, house.clients() as slow, house.session() as session:
        clients.ask([house.path(known)])
        assert clients.collect()[0].status == 200
        lock(session, held)
        clauses = [house.path(held, where=f"id > {number}") for number in range(40)]
        slow.ask(shapes_of(house, held, 40) + clauses)
        house.wait_for("creations_in_progress", 32)
        clients.ask([house.path(known), house.path(other), house.path(other, where="id > 5")])
        assert [answer.status for answer in clients.collect()] == [200, 200, 200]
        assert house.metric("creations_now") == 40
        assert house.metric("creations_failed_total") == failed_before
        session.rollback()
        assert {answer.status for answer in slow.collect()} <= {200, 503}
    house.wait_for("creations_now", 0)
