"""Creations that fail, and owners that die: everybody hears of it and nothing stays behind (design §6)."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise

import psycopg
import pytest
from tests.herd import CREATE, Clients, Stage, stage
from tests.system.herd.held_up import lock

from pgshapes.postgres.embedded import EmbeddedPostgres

CALLERS = 500
LOG_RESOLUTION_S = 0.002


def check_nothing_is_left(house: Stage, table: str) -> None:
    """On disk, in the tables, in routing and in the publication."""
    for rows in ("handles", "shapes", "tails", "creation_locks"):
        house.wait_for("table_rows", 0, table=rows)
    house.wait_for("routed_shapes", 0)
    house.wait_for("creations_now", 0)
    house.until(lambda: house.files() == 0, "an empty directory")
    published = "SELECT FROM pg_publication_tables WHERE tablename = %s"
    house.until(lambda: not house.server.sql(published, table), "a table that is not published")


@pytest.fixture
def lonely(logging_postgres: EmbeddedPostgres, workers: int) -> Stage:
    """A server whose tables have nothing but what the test makes."""
    with stage(logging_postgres, workers, wishes={"first_row_timeout_s": 1.0}, role="poor") as house:
        yield house


def test_the_table_is_dropped_meanwhile(lonely: Stage) -> None:
    """All hear that they have to begin anew; who does is told that there is no such table."""
    table = lonely.table()
    with lonely.clients() as clients, lonely.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask([lonely.path(table)] * CALLERS)
        lonely.wait_for("shape_cache_waiters_now", CALLERS)
        writer.execute(f"DROP TABLE {table}")
        writer.commit()
        answers = clients.collect()
        assert {answer.status for answer in answers} <= {400, 409}
        assert sum(answer.status == 409 for answer in answers) >= CALLERS * 0.9
        check_nothing_is_left(lonely, table)
        clients.ask([lonely.path(table)])
        assert [answer.status for answer in clients.collect()] == [400]
    assert lonely.snapshot_queries(table) == 0
    assert lonely.calls(CREATE, table) <= lonely.processes


def test_nobody_may_read_the_table(lonely: Stage) -> None:
    """One attempt a second, however many ask and ask again; all hear the server's words. The first request
    after a second tries afresh, and gets the rows once it may.
    """
    table = lonely.table()
    lonely.server.sql(f"REVOKE SELECT ON {table} FROM poor")
    with lonely.clients() as clients:
        asked, began = 0, time.monotonic()
        while len(lonely.snapshot_times(table)) < 3:
            clients.ask([lonely.path(table)] * CALLERS)
            answers = clients.collect()
            asked += len(answers)
            assert {answer.status for answer in answers} == {503}
            assert {answer.retry_after for answer in answers} == {1}
            assert all("permission denied for table" in answer.text for answer in answers)
        assert asked >= 3 * CALLERS
        attempts = lonely.snapshot_times(table)
        gaps = [later - earlier for earlier, later in pairwise(attempts)]
        assert min(gaps) >= 1.0 - LOG_RESOLUTION_S
        assert len(attempts) <= time.monotonic() - began + 1
        check_nothing_is_left(lonely, table)
        lonely.server.sql(f"GRANT SELECT ON {table} TO poor")
        clients.ask([lonely.path(table)] * CALLERS)
        answers = clients.collect()
        assert len({answer.handle for answer in answers}) == 1
        assert {answer.status for answer in answers} == {200}


def test_the_snapshot_gives_no_row_in_time(lonely: Stage) -> None:
    """A published table is locked for longer than a snapshot waits."""
    table = lonely.table()
    with lonely.clients() as clients, lonely.session() as session:
        clients.ask([lonely.path(table)])
        assert clients.collect()[0].status == 200
        lock(session, table)
        clients.ask([lonely.path(table, columns="id")] * CALLERS)
        answers = clients.collect()
        assert {answer.status for answer in answers} == {503}
        assert all("Snapshot query took too long to return data" in answer.text for answer in answers)
        session.rollback()
    lonely.wait_for("table_rows", 1, table="shapes")
    lonely.wait_for("routed_shapes", 1)
    lonely.until(lambda: lonely.files() == 1, "one directory")
    assert lonely.snapshot_queries(table) == 2


def test_the_owner_is_killed_mid_creation(lonely: Stage) -> None:
    """Who waits over a process that lives on gets the shape from the next owner, and who waited in the
    owner's own process is cut off at once. No lock of the dead owner is seen again.
    """
    table = lonely.table()
    with lonely.clients() as clients, lonely.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask([lonely.path(table)] * CALLERS)
        lonely.wait_for("shape_cache_waiters_now", CALLERS)
        lonely.until(lambda: lonely.metric("table_lock_waits_total"), "a creation that waits")
        kill_owner(lonely)
        writer.rollback()
        answers = clients.collect()
        if lonely.workers:
            check_old_waiters(answers)
        else:
            assert {answer.status for answer in answers} == {0}
            lonely.server.start()
        ask_anew(lonely, clients, table)
    lonely.wait_for("table_rows", 0, table="creation_locks")
    assert lonely.files() == 1


def kill_owner(house: Stage) -> None:
    """kill -9, and what is to be done then without a supervisor."""
    pid = house.owner_pid
    os.kill(pid, signal.SIGKILL)
    if not house.workers:
        assert house.server.process is not None
        house.server.process.wait()
        house.server.process = None


def check_old_waiters(answers: list) -> None:  # type: ignore[type-arg]
    """A handle, the same for all, or one clean refusal; nobody waited for his deadline."""
    assert {answer.status for answer in answers} <= {200, 503}
    assert len({answer.handle for answer in answers if answer.status == 200}) <= 1
    assert all(answer.retry_after >= 1 for answer in answers if answer.status == 503)
    assert all(answer.after_s < 30 for answer in answers)


def ask_anew(house: Stage, clients: Clients, table: str) -> None:
    """New requests succeed."""
    house.server.wait_active()
    clients.ask([house.path(table)] * CALLERS)
    answers = clients.collect()
    assert {answer.status for answer in answers} == {200}
    assert len({answer.handle for answer in answers}) == 1


def test_an_owner_that_is_away_leaves_no_lock_behind(
    logging_postgres: EmbeddedPostgres, workers: int
) -> None:
    """Its locks are gone with it: after the start there are none, also while the old writer is still
    there.
    """
    with stage(logging_postgres, workers) as house:
        table = house.table()
        with house.clients() as clients, psycopg.connect(house.server.database_url) as writer:
            writer.execute(f"INSERT INTO {table} VALUES (0)")
            clients.ask([house.path(table)] * 10)
            house.wait_for("table_rows", 1, table="creation_locks")
            os.kill(house.owner_pid, signal.SIGSTOP)
            clients.leave()
            kill_owner(house)
            if not house.workers:
                house.server.launch()
            house.server.wait_active()
            house.wait_until_up()
            assert house.metric("table_rows", table="creation_locks") == 0
            assert house.metric("creations_now") == 0
            writer.rollback()
