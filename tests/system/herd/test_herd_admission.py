"""Which requests are admitted under load, and which wait for a slow creation."""

from __future__ import annotations

import json
from collections import Counter

from tests.support.clients.herd import CREATE, RESOLVE, Stage
from tests.system.herd.held_up import lock, shapes_of, wide_table

CALLERS = 400
LIMIT = 300


def test_callers_of_different_fresh_shapes_are_refused_beyond_the_limit(env: Stage) -> None:
    """Each needs a creation; the excess is refused without a call to the owner, with spread retry times.
    Processes that count at the same moment may each let one in too many, or refuse one too early.
    """
    table = env.table()
    refused_before = env.metric("admission_refused_total", kind="initial")
    paths = [env.path(table, where=f"id > {number}") for number in range(CALLERS)]
    with env.clients() as clients, env.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask(paths)
        env.until(
            lambda: (
                env.metric("admission_refused_total", kind="initial") - refused_before
                >= CALLERS - LIMIT - env.workers
            ),
            "a hundred refusals",
        )
        env.until(
            lambda: env.metric("admission_in_use", kind="initial") >= LIMIT - env.workers,
            "the limit to be reached",
        )
        env.until(lambda: env.calls(CREATE, table) >= LIMIT - env.workers, "calls of the others")
        writer.rollback()
        answers = clients.collect()
    admitted = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 503]
    assert len(admitted) + len(refused) == CALLERS
    assert abs(len(admitted) - LIMIT) <= env.workers
    assert env.calls(CREATE, table) == len(admitted) == env.snapshot_queries(table)
    assert env.calls(RESOLVE, table) == len(admitted)
    for answer in refused:
        assert json.loads(answer.text)["code"] == "concurrent_request_limit_exceeded"
    comes_back = Counter(answer.retry_after for answer in refused)
    assert len(comes_back) >= 3
    assert max(comes_back.values()) < len(refused) * 0.75
    env.wait_for("admission_in_use", 0)


def test_old_writers_of_a_table_delay_no_other_shape(env: Stage) -> None:
    """More creations than the limit wait for one table; another table's shapes are created and known ones
    served, while all of them still wait.
    """
    known, other, held = env.table(), env.table(), env.table()
    with env.clients() as clients, env.clients() as slow, env.session() as writer:
        clients.ask([env.path(known)])
        assert clients.collect()[0].status == 200
        writer.execute(f"INSERT INTO {held} VALUES (0)")
        slow.ask([env.path(held, where=f"id > {number}") for number in range(150)])
        env.wait_for("creations_now", 150)
        env.until(lambda: env.metric("creations_in_progress") == 0, "slots that are released")
        clients.ask([env.path(known), env.path(other), env.path(other, where="id > 5")])
        assert [answer.status for answer in clients.collect()] == [200, 200, 200]
        assert env.metric("creations_now") == 150
        writer.rollback()
        assert {answer.status for answer in slow.collect()} == {200}


def test_a_locked_table_delays_no_other_shape(env: Stage) -> None:
    """Snapshots and look-ups that wait for a lock do not use all connections."""
    known, other, held = env.table(), env.table(), wide_table(env, 40)
    failed_before = env.metric("creations_failed_total")
    with env.clients() as clients, env.clients() as slow, env.session() as session:
        clients.ask([env.path(known)])
        assert clients.collect()[0].status == 200
        lock(session, held)
        clauses = [env.path(held, where=f"id > {number}") for number in range(40)]
        slow.ask(shapes_of(env, held, 40) + clauses)
        env.wait_for("creations_in_progress", 32)
        clients.ask([env.path(known), env.path(other), env.path(other, where="id > 5")])
        assert [answer.status for answer in clients.collect()] == [200, 200, 200]
        assert env.metric("creations_now") == 40
        assert env.metric("creations_failed_total") == failed_before
        session.rollback()
        assert {answer.status for answer in slow.collect()} <= {200, 503}
    env.wait_for("creations_now", 0)
