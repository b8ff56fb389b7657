"""Creations that do not get on because somebody has their tables locked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from tests.support.clients.herd import Stage

from pgshapes.owner.creations import CREATION_LIMIT

HELD = (32, 16, 8, 4, 2, 1, 1)
"""Places that tables get one after another, when none gives its own back: no table more than it leaves."""


def wide_table(house: Stage, columns: int) -> str:
    """A table with many columns, so that many shapes on it need no clause; it is published already."""
    table = house.table(name="wide")
    added = ", ".join(f"ADD COLUMN c{number} int" for number in range(columns))
    house.server.sql(f"ALTER TABLE {table} {added}")
    with house.clients() as clients:
        clients.ask([house.path(table)])
        assert clients.collect()[0].status == 200
    return table


def shapes_of(house: Stage, table: str, count: int) -> list[str]:
    """Different shapes on a wide table."""
    return [house.path(table, columns=f"id,c{number}") for number in range(count)]


def lock(session: psycopg.Connection, *tables: str) -> None:
    """Keep everybody from these tables, readers included."""
    session.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")


@contextlib.contextmanager
def creation_limit_used_up(house: Stage) -> Iterator[None]:
    """All places taken by creations whose snapshot waits for a lock, and one more of each table queued."""
    tables = [wide_table(house, held + 1) for held in HELD]
    with house.session() as session, house.clients() as clients:
        lock(session, *tables)
        for table, held in zip(tables, HELD, strict=True):
            before = house.metric("creations_in_progress")
            clients.ask(shapes_of(house, table, held + (1 if table != tables[-1] else 0)))
            house.wait_for("creations_in_progress", before + held)
        assert house.metric("creations_in_progress") == CREATION_LIMIT
        house.wait_for("creations_queued", len(tables) - 1)
        yield
        session.rollback()
        assert {answer.status for answer in clients.collect()} == {200}
