"""What the catalogs say about published tables."""

from __future__ import annotations

from collections.abc import Iterable

from pgshapes.postgres.connection import Connection
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.publication import Publication


async def one(db: Connection, sql: str) -> object:
    """The first value of a query."""
    row = await (await db.execute(sql.encode())).fetchone()
    return None if row is None else row[0]


async def identity(db: Connection, table: str) -> object:
    """The replica identity of a table."""
    return await one(db, f"SELECT relreplident::text FROM pg_class WHERE oid = '{table}'::regclass")


MEMBERSHIP = (
    "SELECT concat_ws('.', p.oid, p.xmin, 'table', r.oid, r.xmin)"
    " FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid"
)


async def memberships(
    inspector: Inspector, publication: Publication, oids: Iterable[int]
) -> dict[int, str | None]:
    """How those tables are published that are."""
    stamps = await inspector.stamps(tuple(oids), publication.name)
    return {oid: one.membership for oid, one in stamps.items() if one.membership is not None}
