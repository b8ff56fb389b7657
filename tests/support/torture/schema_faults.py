"""What the owner of the database does: DDL, edits of the publication, a dropped slot.

Every sequence leaves the tables as they were, so that the shapes stay valid. Which refetches a statement
demands is in the rules of the oracle of DDL.
"""

from __future__ import annotations

import asyncio
import time
from random import Random

from tests.oracle.ddl.statements import Kind, Statement
from tests.support.torture.definitions import DAYS
from tests.support.torture.faults import fault
from tests.support.torture.world import World

CHECK_S = 3.0
"""The server checks the system catalogs every 2 s."""
LONGEST_STREAMLESS_S = 20.0
"""While the server is stopped there is no stream."""
_STREAM_CHECK_S = 0.3

Sequence = tuple[Statement, ...]


def _statement(kind: Kind, sql: str, table: str = "", *columns: str) -> Statement:
    return Statement(kind, sql, (f"public.{table}",) if table else (), columns)


def _on(table: str, kind: Kind, action: str, *columns: str) -> Statement:
    return _statement(kind, f"ALTER TABLE {table} {action}", table, *columns)


SEQUENCES: tuple[Sequence, ...] = (
    (
        _on("items", Kind.ADD_COLUMN, "ADD COLUMN extra int DEFAULT 7", "extra"),
        _on("items", Kind.DROP_COLUMN, "DROP COLUMN extra", "extra"),
    ),
    (
        _on("items", Kind.RENAME_COLUMN, "RENAME COLUMN n TO m", "n", "m"),
        _on("items", Kind.RENAME_COLUMN, "RENAME COLUMN m TO n", "n", "m"),
    ),
    (
        _on("items", Kind.RETYPE, "ALTER COLUMN n TYPE bigint", "n"),
        _on("items", Kind.RETYPE, "ALTER COLUMN n TYPE int", "n"),
    ),
    (
        _on("wide", Kind.RENAME_TABLE, "RENAME TO wide_away"),
        _statement(Kind.RENAME_TABLE, "ALTER TABLE wide_away RENAME TO wide", "wide"),
    ),
    (
        _on("events", Kind.DETACH, f"DETACH PARTITION events_{DAYS[1]}"),
        _on(
            "events",
            Kind.ATTACH,
            f"ATTACH PARTITION events_{DAYS[1]} FOR VALUES FROM ({DAYS[1]}) TO ({DAYS[2]})",
        ),
    ),
    (
        _statement(
            Kind.CREATE_PARTITION,
            "CREATE TABLE events_more PARTITION OF events FOR VALUES FROM (100) TO (200)",
            "events",
        ),
        _statement(Kind.DROP_PARTITION, "DROP TABLE events_more", "events"),
    ),
    (_on("docs", Kind.IDENTITY, "REPLICA IDENTITY DEFAULT"),),
    (_on("docs", Kind.SAME_TYPE_USING, "ALTER COLUMN score TYPE float8 USING score * 2", "score"),),
    (
        _statement(Kind.INDEX, "CREATE INDEX items_n ON items (n)", "items"),
        _statement(Kind.INDEX, "DROP INDEX items_n", "items"),
    ),
    (_statement(Kind.VACUUM_FULL, "VACUUM FULL orders", "orders"),),
    (_statement(Kind.ANALYZE, "ANALYZE"),),
    (
        _on("orders", Kind.ADD_CONSTRAINT, "ADD CONSTRAINT positive CHECK (number > 0)"),
        _on("orders", Kind.DROP_CONSTRAINT, "DROP CONSTRAINT positive"),
    ),
    (_statement(Kind.ENUM_ADD, "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'new'"),),
    (
        _statement(
            Kind.DROP_TABLE,
            "BEGIN; CREATE TABLE again (LIKE things); INSERT INTO again SELECT * FROM things;"
            " DROP TABLE things; ALTER TABLE again RENAME TO things;"
            " CREATE UNIQUE INDEX things_code ON things (code); COMMIT",
            "things",
        ),
    ),
    (Statement(Kind.TRUNCATE, "TRUNCATE orders, wide", ("public.orders", "public.wide")),),
)


@fault("ddl", weight=4)
async def ddl(world: World, chance: Random) -> None:
    """A sequence of statements with pauses between them."""
    sequence = chance.choice(SEQUENCES)
    for statement in sequence:
        if statement is not sequence[0]:
            await asyncio.sleep(chance.uniform(0, CHECK_S))
        while not await world.run(statement) and statement is sequence[-1] and len(sequence) > 1:
            # The tables have to be as they were.
            await asyncio.sleep(0.5)


@fault("publication")
async def publication_table(world: World, chance: Random) -> None:
    """A table is taken out of the publication, and perhaps put back."""
    table, is_put_back = chance.choice(("items", "orders", "accounts", "docs")), chance.random() < 0.6
    name = world.server.publication
    leave = f"ALTER PUBLICATION {name} DROP TABLE {table}"
    await world.run(_statement(Kind.PUBLICATION_LEAVE, leave, table))
    await asyncio.sleep(chance.uniform(0, CHECK_S))
    if is_put_back:
        join = f"ALTER PUBLICATION {name} ADD TABLE {table}"
        await world.run(_statement(Kind.PUBLICATION_JOIN, join, table))


@fault("publication")
async def publication_operations(world: World, chance: Random) -> None:
    """Some operations are not published for a while."""
    name, some = (
        world.server.publication,
        chance.choice(("insert", "insert, update", "insert, update, delete")),
    )
    world.let_end()
    await world.run(
        _statement(Kind.PUBLICATION_OPERATIONS, f"ALTER PUBLICATION {name} SET (publish = '{some}')")
    )
    await asyncio.sleep(chance.uniform(0.5, 2 * CHECK_S))
    everything = "insert, update, delete, truncate"
    await world.run(
        _statement(Kind.PUBLICATION_OPERATIONS, f"ALTER PUBLICATION {name} SET (publish = '{everything}')")
    )


@fault("publication", weight=0.5)
async def publication_dropped(world: World, chance: Random) -> None:
    """DROP PUBLICATION. A server in one process ends."""
    world.let_end(60)
    began = await _now(world)
    await world.run(
        _statement(Kind.DROP_PUBLICATION, f"DROP PUBLICATION IF EXISTS {world.server.publication}")
    )
    await _until_streaming_since(world, began, Kind.DROP_PUBLICATION.value)


@fault("slot")
async def slot_dropped(world: World, chance: Random) -> None:
    """The slot is dropped under the walsender. A server in one process ends."""
    name = world.server.slot
    find = f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{name}' AND active"
    drop = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
    world.let_end(60)
    began = await _now(world)
    for _ in range(50):
        for (pid,) in await world.execute(find):
            await world.execute(f"SELECT pg_terminate_backend({pid})")
        if await world.try_once(drop):
            break
    await _until_streaming_since(world, began, "the slot was dropped")


async def _now(world: World) -> str:
    return str((await world.execute("SELECT clock_timestamp()::text"))[0][0])


async def _until_streaming_since(world: World, began: str, rule: str) -> None:
    """Demand refetches until there is a stream that began later: shapes that are made until then end, too."""
    streams = (
        "SELECT count(*) FROM pg_replication_slots JOIN pg_stat_activity ON pid = active_pid"
        f" WHERE slot_name = '{world.server.slot}' AND backend_start > '{began}'"
    )
    ends = time.monotonic() + LONGEST_STREAMLESS_S
    is_streaming = False
    while not is_streaming and time.monotonic() < ends:
        world.judge.demand(rule)
        await asyncio.sleep(_STREAM_CHECK_S)
        is_streaming = await world.execute(streams) == [(1,)]
    await asyncio.sleep(_STREAM_CHECK_S)
    world.judge.demand(rule)
