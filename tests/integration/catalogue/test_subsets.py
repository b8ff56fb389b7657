"""Subset snapshots, from the parameters to the body, with a real database and a scripted owner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from tests.support.seams.links import eventually

from pgshapes.errors import NotNow, OwnerUnavailable, RequestError, SchemaChanged
from pgshapes.model.offset import FIRST_SNAPSHOT_CHUNK, Offset
from pgshapes.model.shape import RawShape, ResolvedShape, Subset
from pgshapes.owner.refusal_log import RefusalLog
from pgshapes.owner.resolver import KnownRelations, ShapeResolver
from pgshapes.postgres.connection import Connection, ConnectionPool
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.subset import SubsetSource
from pgshapes.shape_cache import subsets as subsets_module
from pgshapes.shape_cache.subsets import SubsetSnapshots
from pgshapes.tables.calls import Call, InvalidateRelation, ListUnseen, Reply, Unseen
from pgshapes.tables.link import InProcessLink
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.tables import Tables

ITEMS = RawShape("public", "items")
TABLE = "CREATE TABLE items (id int PRIMARY KEY, name text, secret text)"


@dataclass
class Harness:
    """Subset snapshots and a scripted owner."""

    tables: Tables
    known: KnownRelations
    resolver: ShapeResolver
    unseen: Unseen = field(default_factory=lambda: Unseen(0, ()))
    error: OwnerUnavailable | None = None
    asked: int = 0
    held: asyncio.Event | None = None
    invalidated: list[int] = field(default_factory=list)
    subsets: SubsetSnapshots = field(init=False)

    async def answer(self, call: Call, context: CallContext) -> Reply:
        if isinstance(call, InvalidateRelation):
            self.invalidated.append(call.oid)
            self.known.invalidate(call.oid)
            return None
        assert isinstance(call, ListUnseen)
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        return self.unseen

    async def ask(
        self, raw: RawShape = ITEMS, resume: Offset = FIRST_SNAPSHOT_CHUNK, **wanted: Any
    ) -> dict[str, Any]:
        shape = await self.resolver.resolve(raw)
        body = await self.subsets.subset(raw, shape, Subset(**wanted), resume)
        answer: dict[str, Any] = json.loads(body)
        return answer

    async def ids(self, raw: RawShape = ITEMS, **wanted: Any) -> list[int]:
        return [int(row["value"]["id"]) for row in (await self.ask(raw, **wanted))["data"]]

    async def errors(self, raw: RawShape = ITEMS, **wanted: Any) -> Any:
        with pytest.raises(RequestError) as refused:
            await self.ask(raw, **wanted)
        assert refused.value.errors.keys() == {"subset"}
        return refused.value.errors["subset"]


@pytest.fixture
async def harness(
    db: Connection, make_pool: Callable[[int], ConnectionPool], inspector: Inspector
) -> AsyncIterator[Harness]:
    await db.execute(TABLE.encode())
    tables = Tables()
    known = KnownRelations(inspector, tables)
    harness = Harness(tables, known, ShapeResolver(inspector, known, RefusalLog(), lambda _: None))
    link = InProcessLink(tables, harness.answer)
    harness.subsets = SubsetSnapshots(link, SubsetSource(make_pool(2)), harness.resolver.resolve)
    yield harness
    await harness.subsets.close()
    await link.close()


async def fill(db: Connection, count: int = 5) -> None:
    await db.execute(
        f"INSERT INTO items SELECT n, 'name ' || n, 's' || n % 2 FROM generate_series(1, {count}) n".encode()
    )


async def test_a_body(db: Connection, harness: Harness) -> None:
    await fill(db, 2)
    answer = await harness.ask(where="id = $1", params=(("1", "2"),))
    metadata, (row,) = answer["metadata"], answer["data"]
    assert set(metadata) == {"xmin", "xmax", "xip_list", "snapshot_mark", "database_lsn"}
    assert all(metadata[name].isdecimal() for name in ("xmin", "xmax", "database_lsn"))
    assert row == {
        "key": '"public"."items"/"2"',
        "value": {"id": "2", "name": "name 2", "secret": "s0"},
        "headers": {
            "operation": "insert",
            "relation": ["public", "items"],
            "snapshot_mark": metadata["snapshot_mark"],
        },
    }
    other = await harness.ask(where="false")
    assert other["data"] == []
    assert other["metadata"]["snapshot_mark"] != metadata["snapshot_mark"]


async def test_it_is_a_part_of_the_shape(db: Connection, harness: Harness) -> None:
    await fill(db)
    shape = ITEMS._replace(where="id = 1 OR id = $1", params=(("1", "4"),), columns=("id", "name"))
    answer = await harness.ask(shape, where="name <> 'name 1' OR id = 5", order_by="id")
    assert [row["value"] for row in answer["data"]] == [{"id": "4", "name": "name 4"}]


async def test_only_queryable_columns_are_used(db: Connection, harness: Harness) -> None:
    await fill(db)
    some = ITEMS._replace(queryable_columns=("id", "name"))
    assert await harness.errors(some, where="secret = 's1'") == {
        "where": ["At location 0: unknown reference secret"]
    }
    assert await harness.errors(some, order_by="secret") == {
        "order_by": ["At location 0: unknown reference secret"]
    }
    sent = ITEMS._replace(queryable_columns=("id", "secret"), columns=("id",))
    answer = await harness.ask(sent, where="secret = 's1'", order_by="secret, id DESC", limit=2)
    assert [row["value"] for row in answer["data"]] == [{"id": "5"}, {"id": "3"}]


async def test_a_page_by_a_cursor_in_the_databases_collation(db: Connection, harness: Harness) -> None:
    await db.execute("INSERT INTO items VALUES (1, 'a'), (2, 'B'), (3, 'c'), (4, 'D')")
    rows = await (await db.execute("SELECT id FROM items WHERE name > 'a' ORDER BY name LIMIT 2")).fetchall()
    found = await harness.ids(where="name > $1", params=(("1", "a"),), order_by="name", limit=2)
    assert found == [row[0] for row in rows]


async def test_refusals(db: Connection, harness: Harness) -> None:
    await db.execute("ALTER TABLE items ADD n int; INSERT INTO items VALUES (1)")
    assert await harness.errors(where="id IN (SELECT 1)") == {
        "where": ["Subqueries are not allowed in subsets"]
    }
    assert await harness.errors(order_by="random()") == {
        "order_by": ["At location 0: FuncCall expressions are not allowed in ORDER BY clauses"]
    }
    assert await harness.errors(where="id = $2", params=(("2", "1"),)) == {
        "params": ["Parameters must be numbered sequentially, starting from 1"]
    }
    assert await harness.errors(where="1 / (id - 1) = 1") == {
        "where": "fails for a row of the table: division by zero (SQLSTATE 22012)"
    }


HOSTILE = [
    "' OR true --",
    "'; DROP TABLE items; --",
    "\\'; DROP TABLE items; --",
    "1) OR (1=1",
    "$$ OR true $$",
    "' || (SELECT version()) || '",
    "E'\\' OR true",
    'x" OR true --',
    "%' OR '1'='1",
    "\u2019 OR true",
    "*/ OR true /*",
    "\\",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_parameter_values_are_not_sql(db: Connection, harness: Harness, text: str) -> None:
    await fill(db)
    await db.execute("INSERT INTO items VALUES (100, %s, 'x')", (text,))
    assert await harness.ids(where="name = $1", params=(("1", text),)) == [100]
    literal = text.replace("'", "''")
    assert await harness.ids(where=f"name = '{literal}'", order_by="id") == [100]


@pytest.mark.parametrize(
    "text",
    [
        *HOSTILE,
        "true; DROP TABLE items",
        "true) OR (true",
        "true -- \n; DROP TABLE items",
        "true UNION SELECT 1",
        "id = 1 LIMIT 1; SELECT 1",
        "pg_terminate_backend(1)",
        "pg_sleep(60) IS NULL",
        "set_config('x.y', 'z', false) = 'z'",
        "(DELETE FROM items RETURNING true)",
        "lo_import('/etc/passwd') = 1",
        "current_setting('data_directory') = ''",
        "query_to_xml('DELETE FROM items', true, true, '') IS NULL",
        "id::regclass::text = 'x'",
    ],
)
async def test_hostile_clauses_are_refused_and_do_nothing(
    db: Connection, harness: Harness, text: str
) -> None:
    await fill(db)
    assert (await harness.errors(where=text)).keys() == {"where"}
    assert (await harness.errors(order_by=text)).keys() == {"order_by"}
    assert await harness.ids(order_by="id") == [1, 2, 3, 4, 5]


async def test_comments_hide_nothing(db: Connection, harness: Harness) -> None:
    await fill(db)
    shape = ITEMS._replace(where="id < 4 --")
    assert await harness.ids(shape, where="id > 1 -- OR true", order_by="id DESC --", limit=2) == [3, 2]
    assert await harness.ids(shape, where="id > 1 /* ) */", order_by="id /* LIMIT */") == [2, 3]


# --- transactions that the client has read are visible


async def begin(database_url: str) -> tuple[psycopg.AsyncConnection[Any], int]:
    session = await psycopg.AsyncConnection.connect(database_url)
    row = await (
        await session.execute(
            "UPDATE items SET name = 'new' WHERE id = 1 RETURNING pg_current_xact_id()::text"
        )
    ).fetchone()
    assert row is not None
    return session, int(row[0])


async def test_transactions_in_the_log_are_waited_for(
    db: Connection, database_url: str, harness: Harness
) -> None:
    """A transaction is in the log before it is visible: older rows must not follow its new ones."""
    await fill(db, 1)
    session, xid = await begin(database_url)
    harness.unseen = Unseen(1000, ((xid % 2**32, 900),))
    asking = asyncio.create_task(harness.ask(resume=Offset(900, 2)))
    await eventually(lambda: harness.subsets.retakes > 2)
    await session.commit()
    assert (await asking)["data"][0]["value"]["name"] == "new"
    await session.close()


async def test_later_transactions_are_not_waited_for(
    db: Connection, database_url: str, harness: Harness
) -> None:
    await fill(db, 1)
    session, xid = await begin(database_url)
    harness.unseen = Unseen(1000, ((xid, 901),))
    assert (await harness.ask(resume=Offset(900, 2)))["data"][0]["value"]["name"] == "name 1"
    assert harness.subsets.retakes == 0
    await session.close()


async def test_a_transaction_that_never_becomes_visible(
    db: Connection, database_url: str, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subsets_module, "RETAKE_TIMEOUT_S", 0.02)
    await fill(db, 1)
    session, xid = await begin(database_url)
    harness.unseen = Unseen(1000, ((xid, 900),))
    with pytest.raises(NotNow, match="does not become visible") as refused:
        await harness.ask(resume=Offset(900, 0))
    assert refused.value.known
    await session.close()


async def test_an_owner_that_has_to_catch_up(db: Connection, harness: Harness) -> None:
    await fill(db, 1)
    harness.unseen = Unseen(800, ())
    asking = asyncio.create_task(harness.ask(resume=Offset(900, 0)))
    await eventually(lambda: harness.asked > 1)
    assert not asking.done()
    harness.unseen = Unseen(900, ())
    assert len((await asking)["data"]) == 1


async def test_an_offset_that_was_never_reached(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next log request gets must-refetch; a subset that is always refused would prevent it."""
    monkeypatch.setattr(subsets_module, "CATCH_UP_TIMEOUT_S", 0.0)
    harness.unseen = Unseen(800, ())
    assert (await harness.ask(resume=Offset(900, 0)))["data"] == []


async def test_the_owner_is_not_asked_for_what_precedes_the_log(harness: Harness) -> None:
    for resume in (FIRST_SNAPSHOT_CHUNK, Offset(0, 3)):
        await harness.ask(resume=resume)
    assert harness.asked == 0


async def test_concurrent_requests_share_a_call_to_the_owner(db: Connection, harness: Harness) -> None:
    harness.unseen = Unseen(900, ())
    harness.held = asyncio.Event()
    crowd = [asyncio.create_task(harness.ask(resume=Offset(900, 0))) for _ in range(100)]
    await eventually(lambda: harness.asked == 1)
    harness.held.set()
    await asyncio.gather(*crowd)
    assert harness.asked <= 2


async def test_an_unavailable_owner(harness: Harness) -> None:
    harness.error = OwnerUnavailable("away")
    with pytest.raises(OwnerUnavailable):
        await harness.ask(resume=Offset(900, 0))
    harness.error = None
    harness.unseen = Unseen(900, ())
    assert (await harness.ask(resume=Offset(900, 0)))["data"] == []


async def test_an_owner_that_does_not_answer(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subsets_module, "OWNER_TIMEOUT_S", 0.01)
    harness.held = asyncio.Event()
    with pytest.raises(OwnerUnavailable):
        await harness.ask(resume=Offset(900, 0))


# --- the relation for which the shape was created


async def resolved(harness: Harness) -> ResolvedShape:
    return await harness.resolver.resolve(ITEMS)


async def test_a_change_that_does_not_matter(db: Connection, harness: Harness) -> None:
    """The definition is checked again, and is the same."""
    await fill(db, 1)
    shape = await resolved(harness)
    (items,) = shape.relations
    moved = shape._replace(relations=(items._replace(generation=items.generation + 1),))
    harness.tables.relations.remove(("public", "items"))
    for asked in (shape, moved):
        body = await harness.subsets.subset(ITEMS, asked, Subset(), FIRST_SNAPSHOT_CHUNK)
        assert len(json.loads(body)["data"]) == 1
    await db.execute("VACUUM FULL items")
    body = await harness.subsets.subset(ITEMS, shape, Subset(), FIRST_SNAPSHOT_CHUNK)
    assert len(json.loads(body)["data"]) == 1
    assert harness.invalidated == [shape.definition.table_oid]


async def test_a_clause_on_a_column_that_was_just_added(db: Connection, harness: Harness) -> None:
    """A refusal rests on the table as it is, not as it was looked up."""
    await fill(db, 1)
    raw = RawShape("public", "items", columns=("id",))
    shape = await harness.resolver.resolve(raw)
    await db.execute("ALTER TABLE items ADD more int DEFAULT 5")
    body = await harness.subsets.subset(raw, shape, Subset(where="more = 5"), FIRST_SNAPSHOT_CHUNK)
    assert len(json.loads(body)["data"]) == 1
    with pytest.raises(RequestError):
        await harness.subsets.subset(raw, shape, Subset(where="nothing = 5"), FIRST_SNAPSHOT_CHUNK)


async def test_a_table_that_was_announced_and_has_changed(
    db: Connection, harness: Harness, inspector: Inspector
) -> None:
    shape = await resolved(harness)
    await db.execute("ALTER TABLE items ADD more int")
    inspector.clean(shape.definition.table_oid)
    harness.tables.relations.remove(("public", "items"))
    with pytest.raises(SchemaChanged):
        await harness.subsets.subset(ITEMS, shape, Subset(), FIRST_SNAPSHOT_CHUNK)


async def test_a_table_that_changed_without_notification(db: Connection, harness: Harness) -> None:
    shape = await resolved(harness)
    await db.execute("ALTER TABLE items DROP name")
    await db.execute("INSERT INTO items VALUES (1, 'x')")
    with pytest.raises(SchemaChanged):
        await harness.subsets.subset(ITEMS, shape, Subset(where="id = 1"), FIRST_SNAPSHOT_CHUNK)
    assert harness.invalidated == [shape.definition.table_oid]
