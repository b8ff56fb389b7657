"""DDL of a table's owner does not wait for our queries: they are cancelled and begun again after it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
from tests.support.clients.pending import until, until_query
from tests.support.servers.scene import Scene, scene

# For the large values Postgres needs longer than any test.
ENDLESS = "n * n > 0"
NO_ROW = "n * n < 0"
SLOW = 3_000
RUNNING = """SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%COPY (SELECT%%'
 AND pid <> pg_backend_pid() AND datname = current_database()"""
CURE = "ALTER TABLE slow ALTER n TYPE numeric USING 1"


def slow_table(stage: Scene, *, short_rows: int) -> None:
    stage.sql.execute("CREATE TABLE slow (id int PRIMARY KEY, n numeric)")
    stage.sql.execute("INSERT INTO slow SELECT i, 1 FROM generate_series(1, %s) i", (short_rows,))
    large = "INSERT INTO slow SELECT -i, repeat('7', 30000)::numeric FROM generate_series(1, %s) i"
    stage.sql.execute(large, (SLOW,))


def cure(stage: Scene) -> None:
    """DDL after which the query is fast; it fails if it waits for the query."""
    until_query(stage.sql, RUNNING)
    with psycopg.connect(stage.sql.info.dsn, password=stage.sql.info.password, autocommit=True) as owner:
        owner.execute("SET lock_timeout = '20s'")
        owner.execute(CURE)


def test_a_creation_is_begun_again_after_the_ddl(database_url: str) -> None:
    with scene(database_url) as stage:
        slow_table(stage, short_rows=0)
        asked = stage.ask(stage.shape(table="slow", where=NO_ROW))
        cure(stage)
        answer = asked.result()
        assert answer.status_code == 200, answer.text


def test_a_shape_whose_first_rows_were_sent_is_removed(database_url: str) -> None:
    """Its clients refetch, as after any DDL that rewrites the table."""
    with scene(database_url, chunk_bytes_threshold=10_000) as stage:
        slow_table(stage, short_rows=2_000)
        first = stage.shape(table="slow", where=ENDLESS)
        assert first.request(stage.client).status_code == 200
        old = first.handle
        cure(stage)

        def is_refused() -> bool:
            params = {"table": "slow", "where": ENDLESS, "handle": old or "", "offset": "0_0"}
            return stage.client.get(stage.server.shape_url, params=params, timeout=60).status_code == 409

        until(is_refused, "the end of the old handle")
        again = stage.shape(table="slow", where=ENDLESS)
        again.catch_up(stage.client)
        assert len(again.rows) == 2_000 + SLOW


def test_a_subset_is_queried_again_after_the_ddl(database_url: str) -> None:
    with scene(database_url) as stage:
        slow_table(stage, short_rows=0)
        stage.shape(table="slow").catch_up(stage.client)
        params = {"table": "slow", "offset": "-1", "subset__where": NO_ROW}
        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(stage.client.get, stage.server.shape_url, params=params, timeout=60)
            cure(stage)
            answer = asked.result()
        assert answer.status_code in (200, 409, 503), answer.text
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
