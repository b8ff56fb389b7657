"""Callers that disconnect release what they hold, and do not affect other callers."""

from __future__ import annotations

import os
import signal

import pytest
from tests.support.clients.herd import CREATE, Stage
from tests.system.herd.held_up import creation_limit_used_up

CALLERS = 500


def test_a_waiter_that_disconnects_returns_its_permit_and_slot(env: Stage) -> None:
    """The callers that left are not counted any more; the one that stays gets the shape."""
    table = env.table()
    with env.clients() as clients, env.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask([env.path(table)] * CALLERS)
        env.wait_for("shape_cache_waiters_now", CALLERS)
        env.wait_for("admission_in_use", CALLERS)
        assert env.metric("admission_in_use", kind="initial") <= env.processes
        assert clients.leave(CALLERS - 1) == CALLERS - 1
        env.wait_for("shape_cache_waiters_now", 1)
        env.wait_for("admission_in_use", 1)
        writer.rollback()
        assert [answer.status for answer in clients.collect()] == [200]
    env.wait_for("admission_in_use", 0)
    env.wait_for("shape_cache_flights_now", 0)
    assert env.snapshot_queries(table) == 1


def test_a_creation_without_callers_is_not_begun(env: Stage) -> None:
    """It leaves the queue and its lock is removed, while the slots are still held; calls that no caller
    waits for are not answered.
    """
    table = env.table()
    skipped_before = env.metric("creations_skipped_total")
    abandoned_before = env.metric("mailbox_outcomes_total", outcome="abandoned")
    with env.clients() as clients, creation_limit_used_up(env):
        locks, queued = env.metric("table_rows", table="creation_locks"), env.metric("creations_queued")
        waiting = env.metric("shape_cache_waiters_now")
        clients.ask([env.path(table)] * CALLERS)
        env.wait_for("shape_cache_waiters_now", waiting + CALLERS)
        env.wait_for("creations_queued", queued + 1)
        clients.leave()
        env.wait_for("creations_queued", queued)
        env.wait_for("table_rows", locks, table="creation_locks")
        assert env.metric("creations_skipped_total") - skipped_before >= 1
        calls = env.calls(CREATE, table)
        env.wait_for("mailbox_outcomes_total", abandoned_before + calls, outcome="abandoned")
    assert env.snapshot_queries(table) == 0
    env.wait_for("admission_in_use", 0)


def test_calls_to_a_stopped_owner_whose_callers_left_are_skipped(env: Stage) -> None:
    """When the owner continues, it has received the calls and their cancellations."""
    if not env.workers:
        pytest.skip("an owner in the callers' own loop cannot be stopped alone")
    table = env.table()
    with env.clients() as clients:
        pid = env.owner_pid
        clients.open([env.path(table)] * CALLERS)
        os.kill(pid, signal.SIGSTOP)
        try:
            clients.send()
            env.wait_for("admission_in_use", CALLERS)
            clients.leave()
            env.wait_for("admission_in_use", 0)
        finally:
            os.kill(pid, signal.SIGCONT)
        env.wait_until_up()
        env.wait_for("mailbox_depth", 0)
        env.wait_for("creations_now", 0)
        assert env.snapshot_queries(table) == 0
        assert env.metric("table_rows", table="creation_locks") == 0
        clients.ask([env.path(table)])
        assert clients.collect()[0].status == 200
