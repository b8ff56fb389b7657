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


def check_one_creation(house: Stage, table: str, answers: list[Answer]) -> None:
    """All have the same rows of one handle, for one snapshot query and one call per process at most."""
    assert Counter(answer.status for answer in answers) == {200: len(answers)}
    assert len({(answer.handle, answer.crc) for answer in answers}) == 1
    assert house.snapshot_queries(table) == 1
    assert 1 <= house.calls(CREATE, table) <= house.processes
    assert 1 <= house.calls(RESOLVE, table) <= house.processes


@pytest.mark.parametrize(("wishes", "is_owner_blocked"), VARIANTS)
def test_two_thousand_callers_of_one_fresh_shape(
    logging_postgres: EmbeddedPostgres, workers: int, wishes: dict[str, Any], is_owner_blocked: bool
) -> None:
    """With a cold schema cache and default limits; also when nobody is told of changes, when the disk is
    slow, and when all arrive while the owner's loop does something else for a second.
    """
    with stage(logging_postgres, workers, wishes=wishes) as house, house.clients() as clients:
        table = house.table()
        clients.open([house.path(table)] * CALLERS)
        if is_owner_blocked:
            house.block_owner()
        clients.send()
        check_one_creation(house, table, clients.collect())
        assert house.metric("mailbox_high_water") <= house.processes
        assert house.metric("admission_refused_total") == 0
        for left_over in ("waiters_now", "flights_now"):
            assert house.metric(f"shape_cache_{left_over}") == 0
        house.wait_for("admission_in_use", 0)
        house.wait_for("table_rows", 0, table="creation_locks")


def test_while_others_use_up_the_creation_limit(house: Stage) -> None:
    """The herd's creation waits for a place; the lock is set meanwhile, so nobody sends more messages."""
    table = house.table()
    with house.clients() as clients:
        with creation_limit_used_up(house):
            clients.ask([house.path(table)] * CALLERS)
            house.wait_for("creations_queued", 7)
            time.sleep(3)
            assert house.snapshot_queries(table) == 0
        check_one_creation(house, table, clients.collect())


def test_twenty_fresh_shapes_at_once(house: Stage) -> None:
    """Each is created once, whoever asks for the others."""
    tables = [house.table() for _ in range(20)]
    with house.clients() as clients:
        clients.open([house.path(table) for table in tables] * (CALLERS // len(tables)))
        clients.send()
        answers = clients.collect()
    for table in tables:
        check_one_creation(house, table, [each for each in answers if each.path == house.path(table)])


def test_followers_send_no_message_while_the_lock_is_set(house: Stage) -> None:
    """One asks; five hundred who come later, over every process, only look at the table."""
    table = house.table()
    with house.clients() as clients, house.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask([house.path(table)])
        house.wait_for("table_rows", 1, table="creation_locks")
        house.until(lambda: house.metric("table_lock_waits_total"), "a creation that waits")
        assert house.calls(CREATE, table) == 1
        clients.ask([house.path(table)] * 500)
        house.wait_for("shape_cache_waiters_now", 501)
        time.sleep(0.5)
        assert house.calls(CREATE, table) == 1
        writer.rollback()
        answers = clients.collect()
    check_one_creation(house, table, answers)
    assert house.calls(CREATE, table) == 1
