"""Creations that fail, and owners that are killed: every caller gets an answer and nothing remains."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.support.clients.herd import CREATE, Answer, Clients, Stage, stage
from tests.system.herd.conftest import MODES
from tests.system.herd.held_up import lock

from pgshapes.embedded.server import EmbeddedPostgres

CALLERS = 500
LOG_RESOLUTION_S = 0.002
REFUSAL_ANSWERS_S = 1.1
"""A refusal of a table answers a herd for a second, and a little more for this test."""


@pytest.fixture(scope="module", params=MODES)
def strict(request: pytest.FixtureRequest, logging_postgres: EmbeddedPostgres) -> Iterator[Stage]:
    """A server that is not a superuser, with a timeout of 1 s for the first row of a snapshot."""
    with stage(logging_postgres, request.param, options={"first_row_timeout_s": 1.0}, role="poor") as env:
        yield env


class Left(NamedTuple):
    """The numbers of shapes in the tables, in routing and on disk."""

    rows: dict[str, float]
    routed: float
    files: int

    @classmethod
    def now(cls, env: Stage) -> Left:
        """The current numbers."""
        metrics, tables = env.metrics(), ("handles", "shapes", "tails", "creation_locks")
        rows = {table: metrics.sum("table_rows", table=table) for table in tables}
        return cls(rows, metrics.sum("routed_shapes"), env.files())


def check_nothing_is_left(env: Stage, before: Left, table: str) -> None:
    """Check that the numbers are as before, and that the table is not in the publication."""
    env.until(lambda: Left.now(env) == before, f"{before}")
    env.wait_for("creations_now", 0)
    published = "SELECT FROM pg_publication_tables WHERE tablename = %s"
    env.until(lambda: not env.server.sql(published, table), "a table that is not published")


def test_the_table_is_dropped_meanwhile(strict: Stage) -> None:
    """All callers get the error that the table does not exist; it is looked up again for all of them once."""
    table, before = strict.table(), Left.now(strict)
    with strict.clients() as clients, strict.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask([strict.path(table)] * CALLERS)
        strict.wait_for("shape_cache_waiters_now", CALLERS)
        writer.execute(f"DROP TABLE {table}")
        writer.commit()
        answers = clients.collect()
        assert {answer.status for answer in answers} == {400}
        assert all("does not exist" in answer.text for answer in answers)
        check_nothing_is_left(strict, before, table)
        clients.ask([strict.path(table)])
        assert [answer.status for answer in clients.collect()] == [400]
    assert strict.snapshot_queries(table) == 0
    assert strict.calls(CREATE, table) <= strict.processes


def test_a_role_without_select_on_the_table(strict: Stage) -> None:
    """All get the reason, and nothing is tried; a second after the grant requests get the rows."""
    table = strict.table()
    strict.until(lambda: Left.now(strict).rows["creation_locks"] == 0, "the end of earlier failures")
    before = Left.now(strict)
    strict.server.sql(f"REVOKE SELECT ON {table} FROM poor")
    with strict.clients() as clients:
        for _ in range(3):
            clients.ask([strict.path(table)] * CALLERS)
            answers = clients.collect()
            assert {answer.status for answer in answers} == {400}
            assert all("may not read it" in answer.text for answer in answers)
        assert strict.snapshot_queries(table) == 0
        check_nothing_is_left(strict, before, table)
        strict.server.sql(f"GRANT SELECT ON {table} TO poor")
        time.sleep(REFUSAL_ANSWERS_S)
        clients.ask([strict.path(table)] * CALLERS)
        answers = clients.collect()
        assert len({answer.handle for answer in answers}) == 1
        assert {answer.status for answer in answers} == {200}


def test_the_snapshot_gives_no_row_in_time(strict: Stage) -> None:
    """A published table is locked for longer than a snapshot waits for its lock."""
    table = strict.table()
    with strict.clients() as clients, strict.session() as session:
        clients.ask([strict.path(table)])
        assert clients.collect()[0].status == 200
        before = Left.now(strict)
        lock(session, table)
        clients.ask([strict.path(table, columns="id")] * CALLERS)
        answers = clients.collect()
        assert {answer.status for answer in answers} == {503}
        assert all("timed out while waiting for a table lock" in answer.text for answer in answers)
        session.rollback()
    strict.until(lambda: Left.now(strict) == before, f"{before}")
    assert strict.snapshot_queries(table) == 1


def test_the_owner_is_killed_mid_creation(strict: Stage) -> None:
    """A request to a process that survives gets the shape from the next owner; a request to the
    owner's own process is cut off at once. No lock of the dead owner is seen again.
    """
    table, before = strict.table(), Left.now(strict)
    with strict.clients() as clients, strict.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        waits = strict.metric("table_lock_waits_total")
        clients.ask([strict.path(table)] * CALLERS)
        strict.wait_for("shape_cache_waiters_now", CALLERS)
        strict.until(lambda: strict.metric("table_lock_waits_total") > waits, "a creation that waits")
        kill_owner(strict)
        writer.rollback()
        answers = clients.collect()
        if strict.workers:
            check_old_waiters(answers)
        else:
            assert {answer.status for answer in answers} == {0}
            strict.server.start()
        request_again(strict, clients, table)
    strict.wait_for("table_rows", 0, table="creation_locks")
    assert strict.files() == before.files + 1


def kill_owner(env: Stage) -> None:
    """Kill the owner with SIGKILL; without a supervisor, start it again."""
    pid = env.owner_pid
    os.kill(pid, signal.SIGKILL)
    if not env.workers:
        assert env.server.process is not None
        env.server.process.wait()
        env.server.process = None


def check_old_waiters(answers: list[Answer]) -> None:
    """Check that all got the same handle, or one refusal, before their deadlines."""
    assert {answer.status for answer in answers} <= {200, 503}
    assert len({answer.handle for answer in answers if answer.status == 200}) <= 1
    assert all(answer.retry_after >= 1 for answer in answers if answer.status == 503)
    assert all(answer.after_s < 30 for answer in answers)


def request_again(env: Stage, clients: Clients, table: str) -> None:
    """New requests succeed."""
    env.server.wait_active()
    clients.ask([env.path(table)] * CALLERS)
    answers = clients.collect()
    assert {answer.status for answer in answers} == {200}
    assert len({answer.handle for answer in answers}) == 1


def test_the_locks_of_a_killed_owner_do_not_remain(strict: Stage) -> None:
    """After the restart there are none of its locks, also while the old writer is still
    there.
    """
    table = strict.table()
    with strict.clients() as clients, strict.session() as writer:
        writer.execute(f"INSERT INTO {table} VALUES (0)")
        clients.ask([strict.path(table)] * 10)
        strict.wait_for("table_rows", 1, table="creation_locks")
        os.kill(strict.owner_pid, signal.SIGSTOP)
        clients.leave()
        kill_owner(strict)
        if not strict.workers:
            strict.server.launch()
        strict.wait_until_up()
        strict.server.wait_active()
        assert strict.metric("table_rows", table="creation_locks") == 0
        assert strict.metric("creations_now") == 0
