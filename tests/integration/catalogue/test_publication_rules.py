"""Publications with which a table cannot be followed, and roles that may not alter one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from tests.integration.catalogue.published import MEMBERSHIP, identity, memberships, one

from pgshapes.errors import NotNow, RequestError, SourceError
from pgshapes.model.relation import Relation
from pgshapes.postgres.connection import Connection, ConnectionPool, connect
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.publication import Publication

pytestmark = pytest.mark.each_postgres

MakePool = Callable[[int], ConnectionPool]


@pytest.fixture
async def publication(make_pool: MakePool) -> AsyncIterator[Publication]:
    made = Publication("the publication", make_pool(4))
    await made.prepare()
    yield made
    await made.close()


@pytest.fixture
async def items(db: Connection, inspector: Inspector) -> Relation:
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, value text)")
    return await inspector.relation("public", "items")


async def refusal(publication: Publication, relation: Relation) -> str:
    """The reason for which a table is refused, which is a lasting one."""
    with pytest.raises(RequestError) as refused:
        await publication.ensure_table(relation)
    assert refused.value.status == 400
    (text,) = refused.value.errors["table"]
    reason = str(refused.value.details["reason"])
    assert text.startswith('Table "public"."items" cannot be followed: ' + reason)
    return reason


async def test_a_missing_publication_is_waited_for(make_pool: MakePool, items: Relation) -> None:
    with pytest.raises(NotNow, match='Publication "r" not found in the database'):
        await Publication("r", make_pool(1)).ensure_table(items)


async def test_in_manual_mode_nothing_is_altered(
    db: Connection, make_pool: MakePool, items: Relation
) -> None:
    manual = Publication("p", make_pool(1), is_manual=True)
    with pytest.raises(SourceError, match='Publication "p" not found in the database'):
        await manual.prepare()
    await db.execute("CREATE PUBLICATION p")
    await manual.prepare()
    assert await refusal(manual, items) == (
        'Database table "public.items" is missing from the publication "p" and the'
        " ELECTRIC_MANUAL_TABLE_PUBLISHING setting prevents Electric from adding it"
    )
    await db.execute("ALTER PUBLICATION p ADD TABLE items")
    assert await refusal(manual, items) == (
        'Database table "public.items" does not have its replica identity set to FULL'
    )
    assert await manual.drop_table(items)
    await db.execute("ALTER TABLE items REPLICA IDENTITY FULL")
    assert (await manual.ensure_table(items)).version == await one(db, MEMBERSHIP)


async def test_a_publication_for_all_tables(
    db: Connection, make_pool: MakePool, items: Relation, inspector: Inspector
) -> None:
    await db.execute("CREATE PUBLICATION p FOR ALL TABLES; ALTER TABLE items REPLICA IDENTITY FULL")
    manual = Publication("p", make_pool(1), is_manual=True)
    membership = await manual.ensure_table(items)
    assert membership.version == await one(db, "SELECT concat_ws('.', oid, xmin) FROM pg_publication")
    assert await memberships(inspector, manual, [items.oid]) == dict([membership])


async def test_an_incomplete_publication_is_refused(
    db: Connection, make_pool: MakePool, items: Relation
) -> None:
    await db.execute("CREATE PUBLICATION p WITH (publish = 'insert, delete')")
    assert await refusal(Publication("p", make_pool(1)), items) == (
        'Publication "p" does not publish all required operations: INSERT, UPDATE, DELETE, TRUNCATE'
    )


@pytest.mark.parametrize("part", ["(id)", "WHERE (id > 1)"])
async def test_a_publication_of_a_part_is_refused(
    db: Connection, make_pool: MakePool, items: Relation, part: str
) -> None:
    if db.info.server_version < 150000:
        pytest.skip("Postgres 14 has neither column lists nor row filters")
    statement = f"CREATE PUBLICATION p FOR TABLE items {part}; ALTER TABLE items REPLICA IDENTITY FULL"
    await db.execute(statement.encode())
    assert "row filter or a column list" in await refusal(Publication("p", make_pool(1)), items)


@pytest.mark.parametrize("part", ["(id)", "WHERE (false)"])
async def test_a_partition_that_is_listed_with_a_part_of_it_is_refused_with_its_root(
    db: Connection, make_pool: MakePool, inspector: Inspector, part: str
) -> None:
    """Its changes pass its own entry, also when the root is published."""
    if db.info.server_version < 150000:
        pytest.skip("Postgres 14 has neither column lists nor row filters")
    await db.execute("CREATE TABLE items (id int PRIMARY KEY, value text) PARTITION BY RANGE (id)")
    await db.execute("CREATE TABLE sub PARTITION OF items DEFAULT PARTITION BY RANGE (id)")
    await db.execute("CREATE TABLE leaf PARTITION OF sub DEFAULT")
    root = await inspector.relation("public", "items")
    publication = Publication("p", make_pool(1))
    await db.execute("CREATE PUBLICATION p")
    first = await publication.ensure_table(root)
    assert await memberships(inspector, publication, [root.oid]) == dict([first])
    await db.execute(f"ALTER PUBLICATION p ADD TABLE leaf {part}".encode())
    narrowed = await memberships(inspector, publication, [root.oid])
    assert narrowed != dict([first])
    assert "a row filter or a column list for the table public.leaf" in await refusal(publication, root)
    await db.execute("ALTER PUBLICATION p DROP TABLE leaf; ALTER PUBLICATION p ADD TABLE leaf")
    assert await memberships(inspector, publication, [root.oid]) == dict([first])
    assert await publication.ensure_table(root) == first


async def test_generated_columns(
    db: Connection, make_pool: MakePool, inspector: Inspector, items: Relation
) -> None:
    """A publication of ours gets them; for one of somebody else the table is refused, not altered."""
    await db.execute("ALTER TABLE items ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED")
    await db.execute("CREATE PUBLICATION p; INSERT INTO items VALUES (1)")
    manual = Publication("p", make_pool(1), is_manual=True)
    if db.info.server_version >= 180000:
        assert "does not publish generated columns" in await refusal(manual, items)
        assert await identity(db, "items") == "d"
    ours = Publication("p", make_pool(1))
    await ours.ensure_table(items)
    await db.execute("UPDATE items SET value = 'x'; DELETE FROM items")
    await manual.ensure_table(items)


async def test_an_old_publication_gets_generated_columns_at_the_start(
    db: Connection, make_pool: MakePool, items: Relation
) -> None:
    await db.execute("CREATE PUBLICATION p FOR TABLE items; ALTER TABLE items REPLICA IDENTITY FULL")
    assert not await Publication("p", make_pool(1)).prepare()
    await db.execute("ALTER TABLE items ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED")
    await db.execute("INSERT INTO items VALUES (1); UPDATE items SET value = 'x'; DELETE FROM items")


async def test_a_publication_with_a_column_list_of_somebody_else(
    db: Connection, publication: Publication, items: Relation
) -> None:
    """Replica identity FULL would make the owner's UPDATE fail."""
    if db.info.server_version < 150000:
        pytest.skip("publications have no column lists")
    await db.execute("CREATE PUBLICATION theirs FOR TABLE items (id); INSERT INTO items VALUES (1)")
    assert 'because of the publication "theirs"' in await refusal(publication, items)
    assert await identity(db, "items") == "d"
    await db.execute("UPDATE items SET value = 'x'")


async def test_a_publication_of_a_schema(db: Connection, make_pool: MakePool, items: Relation) -> None:
    if db.info.server_version < 150000:
        pytest.skip("publications have no schemas")
    await db.execute("CREATE PUBLICATION p FOR TABLES IN SCHEMA public")
    await db.execute("ALTER TABLE items REPLICA IDENTITY FULL")
    manual = Publication("p", make_pool(1), is_manual=True)
    await manual.ensure_table(items)
    assert await Publication("p", make_pool(1)).drop_table(items), "it is not in the publication by its name"


async def test_a_publication_via_the_root_is_refused_for_partitioned_tables_only(
    db: Connection, make_pool: MakePool, inspector: Inspector, items: Relation
) -> None:
    await db.execute(
        "CREATE TABLE root (a int PRIMARY KEY) PARTITION BY LIST (a);"
        "CREATE TABLE leaf PARTITION OF root DEFAULT;"
        "CREATE PUBLICATION p FOR TABLE root, items WITH (publish_via_partition_root = true)"
    )
    via_root = Publication("p", make_pool(1))
    await via_root.ensure_table(items)
    for name in ("root", "leaf"):
        with pytest.raises(RequestError) as refused:
            await via_root.ensure_table(await inspector.relation("public", name))
        assert "publish_via_partition_root" in refused.value.errors["table"][0]
        assert await identity(db, name) == "d"


async def test_a_role_that_is_read_only_by_default(
    db: Connection, database_url: str, items: Relation
) -> None:
    async def connect_read_only() -> Connection:
        connection = await connect(database_url)
        await connection.execute(b"SET default_transaction_read_only = on")
        return connection

    pool = ConnectionPool(connect_read_only, 1)
    try:
        ours = Publication("p", pool)
        assert await ours.prepare()
        await ours.ensure_table(items)
        assert await ours.drop_table(items)
    finally:
        await pool.close()


async def test_without_rights(
    db: Connection, database_url: str, inspector: Inspector, publication: Publication, items: Relation
) -> None:
    name = f"poor_{db.info.dbname}"
    await db.execute(f"CREATE ROLE {name}; GRANT CREATE ON DATABASE {db.info.dbname} TO {name}".encode())

    async def connect_as_poor() -> Connection:
        connection = await connect(database_url)
        await connection.execute(f"SET ROLE {name}".encode())
        return connection

    pool = ConnectionPool(connect_as_poor, 1)
    try:
        own = Publication("own", pool)
        await own.prepare()
        await own.prepare()
        assert (await refusal(own, items)).startswith("must be owner of table items")
        await db.execute("ALTER PUBLICATION own ADD TABLE items; ALTER TABLE items REPLICA IDENTITY FULL")
        membership = await own.ensure_table(items)
        assert await own.drop_table(items)
        assert await own.ensure_table(items) == membership, "what we could not add stays"
        assert await own.drop_table(items, is_forced=True)
        assert (await refusal(own, items)).startswith("must be owner of table items")
        await db.execute("ALTER TABLE items REPLICA IDENTITY DEFAULT")
        foreign = Publication(publication.name, pool)
        await foreign.prepare()
        assert await refusal(foreign, items) == (
            'Database table "public.items" is missing from the publication "the publication" and Electric'
            " lacks privileges to add it"
        )
        await publication.ensure_table(items)
        await foreign.ensure_table(items)
        await db.execute(f"REVOKE CREATE ON DATABASE {db.info.dbname} FROM {name}".encode())
        with pytest.raises(SourceError, match="permission denied for database"):
            await Publication("another", pool).prepare()
    finally:
        await pool.close()
        await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())
