"""Callers that leave take what is theirs along, and nothing that others still want."""

from __future__ import annotations

import os
import signal

import pytest
from tests.support.clients.herd import CREATE, Stage
from tests.system.herd.held_up import creation_limit_used_up

CALLERS = 500


def test_a_waiter_that_leaves_frees_its_permit_and_its_place(house: Stage) -> None:
    """Nothing is counted any more for those who left; the one who stays gets the shape."""
    table = house.table()
    with house.clients() as clients, house.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask([house.path(table)] * CALLERS)
        house.wait_for("shape_cache_waiters_now", CALLERS)
        house.wait_for("admission_in_use", CALLERS)
        assert house.metric("admission_in_use", kind="initial") <= house.processes
        assert clients.leave(CALLERS - 1) == CALLERS - 1
        house.wait_for("shape_cache_waiters_now", 1)
        house.wait_for("admission_in_use", 1)
        writer.rollback()
        assert [answer.status for answer in clients.collect()] == [200]
    house.wait_for("admission_in_use", 0)
    house.wait_for("shape_cache_flights_now", 0)
    assert house.snapshot_queries(table) == 1


def test_a_creation_that_all_have_left_before_it_began_is_not_begun(house: Stage) -> None:
    """It leaves the queue and its lock goes with it, while the places are still taken; calls that nobody
    waits for are not answered.
    """
    table = house.table()
    skipped_before = house.metric("creations_skipped_total")
    abandoned_before = house.metric("mailbox_outcomes_total", outcome="abandoned")
    with house.clients() as clients, creation_limit_used_up(house):
        locks, queued = house.metric("table_rows", table="creation_locks"), house.metric("creations_queued")
        waiting = house.metric("shape_cache_waiters_now")
        clients.ask([house.path(table)] * CALLERS)
        house.wait_for("shape_cache_waiters_now", waiting + CALLERS)
        house.wait_for("creations_queued", queued + 1)
        clients.leave()
        house.wait_for("creations_queued", queued)
        house.wait_for("table_rows", locks, table="creation_locks")
        assert house.metric("creations_skipped_total") - skipped_before >= 1
        calls = house.calls(CREATE, table)
        house.wait_for("mailbox_outcomes_total", abandoned_before + calls, outcome="abandoned")
    assert house.snapshot_queries(table) == 0
    house.wait_for("admission_in_use", 0)


def test_what_was_asked_of_a_stopped_owner_and_left_is_skipped(house: Stage) -> None:
    """The calls are there when the owner goes on, and so is the word that nobody waits for them."""
    if not house.workers:
        pytest.skip("an owner in the callers' own loop cannot be stopped alone")
    table = house.table()
    with house.clients() as clients:
        pid = house.owner_pid
        clients.open([house.path(table)] * CALLERS)
        os.kill(pid, signal.SIGSTOP)
        try:
            clients.send()
            house.wait_for("admission_in_use", CALLERS)
            clients.leave()
            house.wait_for("admission_in_use", 0)
        finally:
            os.kill(pid, signal.SIGCONT)
        house.wait_until_up()
        house.wait_for("mailbox_depth", 0)
        house.wait_for("creations_now", 0)
        assert house.snapshot_queries(table) == 0
        assert house.metric("table_rows", table="creation_locks") == 0
        clients.ask([house.path(table)])
        assert clients.collect()[0].status == 200
