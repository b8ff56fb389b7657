"""A table is published while transactions write to it: snapshot and log together have every row once.

The rows that the snapshot sees, and those of later transactions in the log, must be all committed rows. The
table is published while transactions that have written to it, in various ways, are open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest
from tests.integration.catalogue.wire_rows import Walsender, walsender

from pgshapes.model.relation import Relation
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.postgres.connection import Connection, ConnectionPool
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.publication import Publication
from pgshapes.postgres.rendering import copy_rows
from pgshapes.postgres.snapshot import SnapshotSource

pytestmark = pytest.mark.each_postgres

LAST = "999"

TABLES = """
CREATE TABLE plain (id int); ALTER TABLE plain REPLICA IDENTITY FULL;
CREATE TABLE root (id int) PARTITION BY RANGE (id); ALTER TABLE root REPLICA IDENTITY FULL;
CREATE TABLE leaf PARTITION OF root DEFAULT; ALTER TABLE leaf REPLICA IDENTITY FULL
"""

Finish = Callable[[], Awaitable[object]]


@asynccontextmanager
async def open_writer(url: str, table: str) -> AsyncIterator[Connection]:
    async with await Connection.connect(url, autocommit=True) as session:
        await session.execute(f"BEGIN; INSERT INTO {table} VALUES (1)".encode())
        yield session


async def finish_open(session: Connection, table: str) -> Finish:
    async def finish() -> None:
        await session.execute(f"INSERT INTO {table} VALUES (2); COMMIT".encode())

    return finish


async def finish_prepared(session: Connection, table: str) -> Finish:
    name = f"prepared in {session.info.dbname}"
    await session.execute(f"INSERT INTO {table} VALUES (2); PREPARE TRANSACTION '{name}'".encode())

    async def finish() -> None:
        await session.execute(f"COMMIT PREPARED '{name}'".encode())

    return finish


async def snapshot_of(source: SnapshotSource, relation: Relation) -> tuple[SnapshotVisibility, list[str]]:
    async with source.open(relation) as snapshot:
        seen = await snapshot.take()
        texts = [text async for batch in snapshot.rows(copy_rows(relation, ["id"], None)) for text in batch]
    return seen, [orjson.loads(text)["value"]["id"] for text in texts]


async def told_after(sender: Walsender, seen: SnapshotVisibility) -> list[str | None]:
    ids: list[str | None] = []
    while True:
        received = await sender.next_insert()
        if received.row[0] == LAST:
            return ids
        if not seen.sees_xid(received.xid):
            ids.append(received.row[0])


@pytest.mark.parametrize("settle", [finish_open, finish_prepared], ids=["open", "prepared"])
@pytest.mark.parametrize(("written", "wanted"), [("plain", "plain"), ("leaf", "root")])
@pytest.mark.parametrize("was_member", [False, True], ids=["new", "dropped before"])
async def test_an_old_writer_s_rows_are_not_lost(
    db: Connection,
    database_url: str,
    inspector: Inspector,
    make_pool: Callable[[int], ConnectionPool],
    *,
    settle: Callable[[Connection, str], Awaitable[Finish]],
    written: str,
    wanted: str,
    was_member: bool,
) -> None:
    await db.execute(TABLES.encode())
    name = f"p_{db.info.dbname}"
    publication = Publication(name, make_pool(2))
    await publication.prepare()
    relation = await inspector.relation("public", wanted)
    source = SnapshotSource(make_pool(1), publication="none")
    async with walsender(database_url, name) as sender, open_writer(database_url, written) as session:
        if was_member:
            await db.execute(f"ALTER PUBLICATION {name} ADD TABLE {wanted}".encode())
            await db.execute(f"ALTER PUBLICATION {name} DROP TABLE {wanted}".encode())
        finish = await settle(session, written)
        is_waiting = asyncio.Event()
        joining = asyncio.create_task(
            publication.ensure_table(relation, on_waiting=lambda _: is_waiting.set())
        )
        hears = asyncio.create_task(is_waiting.wait())
        await asyncio.wait([joining, hears], return_when=asyncio.FIRST_COMPLETED)
        early = await snapshot_of(source, relation) if joining.done() else None
        await finish()
        await joining
        hears.cancel()
        seen, ids = early or await snapshot_of(source, relation)
        await db.execute(f"INSERT INTO {written} VALUES (3), ({LAST})".encode())
        assert sorted(map(str, [*ids, *await told_after(sender, seen)])) == ["1", "2", "3"]
    await publication.close()
