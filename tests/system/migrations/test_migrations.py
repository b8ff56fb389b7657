"""Migrations in the style of real projects, statement by statement, under live shapes on every table.

The statements of a history are separated by blank lines; several of one block are sent in one message, which
Postgres runs as a transaction. After each, with the application at rest, every client has the rows that a
SELECT finds, or was told to fetch them again and then has them, or its shape is refused with a reason.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from tests.oracle.ddl.catalog import Table
from tests.oracle.ddl.follower import Standing
from tests.oracle.ddl.shape_draw import draw_shape
from tests.oracle.ddl.shapes import Shape
from tests.oracle.ddl.statements import Kind, Statement
from tests.oracle.ddl.world import World, running_world
from tests.support.clients.pending import until
from tests.system.migrations.writer import Writer

HISTORIES = ("web_framework", "authentication", "rotating_partitions", "revisions")
SCHEMAS = ("public", "archive")
DEADLINE_S = 60.0
"""Much more than the server needs: nothing here measures time."""
_AGAIN = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)
"""The application's statements may be in the way."""


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES)
def test_a_history(history: str, database_url: str, tmp_path: Path) -> None:
    """Each client is right after each statement."""
    with ExitStack() as stack:
        world = stack.enter_context(
            running_world(
                database_url,
                tmp_path / "journal.jsonl",
                module="tests.support.servers.frequent_checks_server",
                deadline_s=DEADLINE_S,
                schemas=SCHEMAS,
            )
        )
        world.judge.compares_states = False
        writer = Writer(database_url, seed=1)
        stack.enter_context(writer.writing())
        pick = random.Random(history)
        for sql in statements(history):
            migrate(world, sql)
            with writer.held():
                world.look()
                writer.catalog = world.catalog
                let_go(world)
                follow_new_tables(world, pick)
                world.settle()
            assert not world.judge.totals.violations, (
                f"{world.judge.totals.violations[0]}\n{world.server.log_end()}"
            )
        totals = world.judge.totals
        assert not totals.failed.total() or set(totals.failed) == {Kind.MIGRATION}
        assert totals.observed and writer.written


def statements(history: str) -> Iterator[str]:
    """The blocks of a history."""
    text = (Path(__file__).parent / f"{history}.sql").read_text(encoding="utf-8")
    for block in re.split(r"\n\s*\n", text):
        sql = "\n".join(line for line in block.splitlines() if not line.startswith("--"))
        if sql.strip():
            yield sql


def migrate(world: World, sql: str) -> None:
    """Run a block, again where the application was in the way."""

    def is_done() -> bool:
        done = world.run(0, Statement(Kind.MIGRATION, sql))
        assert done or isinstance(world.last_error, _AGAIN), f"{world.last_error}: {sql}"
        return done

    until(is_done, sql)


def follow_new_tables(world: World, pick: random.Random) -> None:
    """Two clients for each table that has none: one of all it can have, one by chance."""
    followed = {one.shape.table for one in world.followers}
    for table in world.catalog.tables.values():
        if table.full_name not in followed:
            world.follow(whole(table))
            world.follow(draw_shape(pick, table, world.catalog))


def whole(table: Table) -> Shape:
    """All columns; those that are not generated where there are such."""
    if not any(one.generated for one in table.columns):
        return Shape(table.full_name)
    return Shape(table.full_name, tuple(one.name for one in table.columns if not one.generated), is_full=True)


def let_go(world: World) -> None:
    """Clients whose shape is refused leave, so that others come in their place."""
    for follower in tuple(world.followers):
        if follower.standing is Standing.REFUSED:
            world.leave(follower.number)
