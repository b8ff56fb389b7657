"""A first request gets its shape, whatever happens to the table meanwhile: clients cannot refetch what they
have not fetched.
"""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.servers.servers import running_server

REMOVED = re.compile(r"count=(\d+) reason='truncated'")
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'items'::regclass"
HELD = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND state LIKE 'idle in transaction%'"
)


def first(url: str, **params: str) -> httpx.Response:
    return httpx.get(url, params={"table": "items", "offset": "-1", **params}, timeout=60)


@pytest.mark.parametrize(
    ("workers", "statement"), [(0, "TRUNCATE items; INSERT INTO items VALUES (7)"), (2, "TRUNCATE items")]
)
def test_shapes_that_are_created_while_their_table_is_truncated(
    database_url: str, workers: int, statement: str
) -> None:
    """The truncate is in the stream before most of the snapshots are taken, and they see it."""
    with (
        psycopg.connect(database_url, autocommit=True) as sql,
        psycopg.connect(database_url) as truncating,
        running_server(database_url, workers=workers) as server,
        ThreadPoolExecutor(24) as threads,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)")
        assert first(server.shape_url).status_code == 200
        truncating.execute(statement)
        clauses = [f"id < {100 + number % 12}" for number in range(24)]
        asked: list[Future[httpx.Response]] = [
            threads.submit(first, server.shape_url, where=clause) for clause in clauses
        ]
        until(lambda: bool((sql.execute(WAITING).fetchone() or (0,))[0]), "a snapshot that waits")
        truncating.commit()
        expected = [str(row[0]) for row in sql.execute("SELECT id FROM items")]
        for one in asked:
            answer = one.result()
            assert answer.status_code == 200, answer.text
            rows = [each["value"]["id"] for each in answer.json() if "value" in each]
            assert rows == expected
        ended = [line for line in server.log_path.read_text().splitlines() if "'shapes removed'" in line]
        assert [REMOVED.findall(line) for line in ended] == [["1"]]
        until(lambda: (sql.execute(HELD).fetchone() or (1,))[0] == 0, "the end of all transactions")


def test_first_requests_around_truncates(database_url: str) -> None:
    """Whichever step of a creation a truncate meets, the answer is a shape."""
    with (
        psycopg.connect(database_url, autocommit=True) as sql,
        running_server(database_url, workers=0) as server,
        ThreadPoolExecutor(8) as threads,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)")
        assert first(server.shape_url).status_code == 200
        for batch in range(20):
            asked = [
                threads.submit(first, server.shape_url, where=f"id < {100 + 8 * batch + number}")
                for number in range(8)
            ]
            sql.execute("TRUNCATE items")
            assert [one.result().status_code for one in asked] == [200] * 8
        until(lambda: (sql.execute(HELD).fetchone() or (1,))[0] == 0, "the end of all transactions")
