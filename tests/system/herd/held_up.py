"""Creations that are blocked because their tables are locked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from tests.support.clients.herd import Stage

from pgshapes.owner.creations import CREATION_LIMIT

HELD = (32, 16, 8, 4, 2, 1, 1)
"""Slots that tables get one after another when none is released: a table gets no more than it leaves free."""


def wide_table(env: Stage, columns: int) -> str:
    """A table with many columns, so that many shapes on it need no clause; it is published already."""
    table = env.table(name="wide")
    added = ", ".join(f"ADD COLUMN c{number} int" for number in range(columns))
    env.server.sql(f"ALTER TABLE {table} {added}")
    with env.clients() as clients:
        clients.ask([env.path(table)])
        assert clients.collect()[0].status == 200
    return table


def shapes_of(env: Stage, table: str, count: int) -> list[str]:
    """Different shapes on a wide table."""
    return [env.path(table, columns=f"id,c{number}") for number in range(count)]


def lock(session: psycopg.Connection, *tables: str) -> None:
    """Lock these tables against all access, reads included."""
    session.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")


@contextlib.contextmanager
def creation_limit_used_up(env: Stage) -> Iterator[None]:
    """All slots are held by creations whose snapshot waits for a lock; one more of each table is queued."""
    tables = [wide_table(env, held + 1) for held in HELD]
    with env.session() as session, env.clients() as clients:
        lock(session, *tables)
        for table, held in zip(tables, HELD, strict=True):
            before = env.metric("creations_in_progress")
            clients.ask(shapes_of(env, table, held + (1 if table != tables[-1] else 0)))
            env.wait_for("creations_in_progress", before + held)
        assert env.metric("creations_in_progress") == CREATION_LIMIT
        env.wait_for("creations_queued", len(tables) - 1)
        yield
        session.rollback()
        assert {answer.status for answer in clients.collect()} == {200}
