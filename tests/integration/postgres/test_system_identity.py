"""The identity of the cluster, and the error for each unmet requirement."""

from __future__ import annotations

import psycopg
import pytest
from tests.support.postgres.installations import postgres_of

from pgshapes.errors import ConfigError
from pgshapes.postgres.connection import connect, connect_for_replication
from pgshapes.postgres.system_identity import check_source, identify_system


async def test_a_cluster_has_an_identity_and_a_timeline(sql: psycopg.Connection, database_url: str) -> None:
    row = sql.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    async with await connect_for_replication(database_url) as walsender:
        identity = await identify_system(walsender)
    assert (identity.system_id,) == row
    assert identity.timeline == 1


async def test_a_suitable_database_passes(database_url: str) -> None:
    async with await connect(database_url) as connection:
        await check_source(connection)


async def test_a_user_without_replication_is_refused(sql: psycopg.Connection, database_url: str) -> None:
    user = f"plain_{sql.info.dbname}"
    sql.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'x'")
    url = f"postgresql://{user}:x@{database_url.partition('@')[2]}"
    try:
        async with await connect(url) as connection:
            with pytest.raises(ConfigError, match=f"ALTER ROLE {user} WITH REPLICATION"):
                await check_source(connection)
            sql.execute(f"ALTER ROLE {user} REPLICATION")
            await check_source(connection)
    finally:
        sql.execute(f"DROP ROLE {user}")


async def test_a_database_in_another_encoding_is_refused(sql: psycopg.Connection, database_url: str) -> None:
    name = f"latin_{sql.info.dbname}"
    sql.execute(f"CREATE DATABASE {name} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    try:
        async with await connect(f"{database_url.rpartition('/')[0]}/{name}") as connection:
            with pytest.raises(ConfigError, match="encoding LATIN1"):
                await check_source(connection)
    finally:
        sql.execute(f"DROP DATABASE {name}")


async def test_without_logical_wal_it_says_what_to_set() -> None:
    with postgres_of(settings={"wal_level": "replica"}) as server:
        async with await connect(server.url()) as connection:
            with pytest.raises(ConfigError, match="ALTER SYSTEM SET wal_level = 'logical'"):
                await check_source(connection)
