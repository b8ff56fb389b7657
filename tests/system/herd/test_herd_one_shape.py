"""However many ask for shapes that are not there: one creation each, and calls to the owner that do not grow
with the callers.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from tests.support.clients.herd import CREATE, RESOLVE, Answer, Stage, stage
from tests.system.herd.held_up import creation_limit_used_up

from pgshapes.embedded.server import EmbeddedPostgres

CALLERS = 2000

VARIANTS: list[Any] = [
    pytest.param({}, False, id="cold"),
    pytest.param({"has_notices": False}, False, id="no-notices"),
    pytest.param({"slow_files": True}, False, id="slow-files"),
    pytest.param({}, True, id="blocked-owner"),
]


def check_one_creation(env: Stage, table: str, answers: list[Answer], *, look_ups: int = 1) -> None:
    """Check that all got the same rows of one handle, with one snapshot query and at most one call, and
    `look_ups`, per process.
    """
    assert Counter(answer.status for answer in answers) == {200: len(answers)}
    assert len({(answer.handle, answer.crc) for answer in answers}) == 1
    assert env.snapshot_queries(table) == 1
    assert 1 <= env.calls(CREATE, table) <= env.processes
    assert 1 <= env.calls(RESOLVE, table) <= look_ups * env.processes


@pytest.mark.parametrize(("options", "is_owner_blocked"), VARIANTS)
def test_two_thousand_callers_of_one_fresh_shape(
    logging_postgres: EmbeddedPostgres, workers: int, options: dict[str, Any], is_owner_blocked: bool
) -> None:
    """With a cold schema cache and default limits; also without notices, when the disk is
    slow, and when all arrive while the owner's loop does something else for a second.
    """
    with stage(logging_postgres, workers, options=options) as env, env.clients() as clients:
        table = env.table()
        clients.open([env.path(table)] * CALLERS)
        if is_owner_blocked:
            env.block_owner()
        clients.send()
        check_one_creation(env, table, clients.collect())
        assert env.metric("mailbox_high_water") <= env.processes
        assert env.metric("admission_refused_total") == 0
        for left_over in ("waiters_now", "flights_now"):
            assert env.metric(f"shape_cache_{left_over}") == 0
        env.wait_for("admission_in_use", 0)
        env.wait_for("table_rows", 0, table="creation_locks")


def test_a_herd_while_other_creations_hold_all_slots(env: Stage) -> None:
    """The herd's creation waits for a slot; the lock is set meanwhile, so no more calls are sent."""
    table = env.table()
    with env.clients() as clients:
        with creation_limit_used_up(env):
            clients.ask([env.path(table)] * CALLERS)
            env.wait_for("creations_queued", 7)
            time.sleep(3)
            assert env.snapshot_queries(table) == 0
        check_one_creation(env, table, clients.collect())


def test_twenty_fresh_shapes_at_once(env: Stage) -> None:
    """Each is created once."""
    tables = [env.table() for _ in range(20)]
    with env.clients() as clients:
        clients.open([env.path(table) for table in tables] * (CALLERS // len(tables)))
        clients.send()
        answers = clients.collect()
    for table in tables:
        # Publishing changes the table's identity: who comes after that looks it up once more.
        own = [each for each in answers if each.path == env.path(table)]
        check_one_creation(env, table, own, look_ups=2)


def test_followers_send_no_message_while_the_lock_is_set(env: Stage) -> None:
    """One request makes the call; five hundred later ones, over every process, only read the table."""
    table = env.table()
    with env.clients() as clients, env.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask([env.path(table)])
        env.wait_for("table_rows", 1, table="creation_locks")
        env.until(lambda: env.metric("table_lock_waits_total"), "a creation that waits")
        assert env.calls(CREATE, table) == 1
        clients.ask([env.path(table)] * 500)
        env.wait_for("shape_cache_waiters_now", 501)
        time.sleep(0.5)
        assert env.calls(CREATE, table) == 1
        writer.rollback()
        answers = clients.collect()
    check_one_creation(env, table, answers)
    assert env.calls(CREATE, table) == 1
