"""`python -m bench.first_numbers`: a summary of all benchmarks, against the embedded Postgres.

Everything runs on one machine: client, server and Postgres share its cores. Each line prints a rate or a
ratio.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial

import httpx
import psycopg
import uvloop
from bench.load import get_many
from bench.proc import conditions, cpu_s, peak_mb
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

COPY_JSON = (
    'COPY (SELECT \'{"key":"\\"public\\".\\"big\\"/\\"\' || id || \'\\"","value":{"id":"\' || id'
    ' || \'","name":\' || to_json(name)::text || \',"tenant":"\' || tenant || \'"},'
    '"headers":{"operation":"insert","relation":["public","big"]}}\' FROM big)'
    " TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
)
BIG_ROWS = 100_000
HUGE_ROWS = 1_000_000
CHUNK_REQUESTS = 40_000
LATENCY_SAMPLES = 400
TENANTS = 1_000
TRANSACTIONS = 400
ROWS_EACH = 100


def main() -> None:
    """All figures, in order."""
    print(f"conditions: {conditions()}; Postgres 16 with fsync off", flush=True)
    with EmbeddedPostgres(settings=SERVER_SETTINGS) as postgres:
        for part in (cached_chunk, cold_shape, latency, rows_in, memory):
            with fresh_database(postgres) as url:
                part(url)


def cached_chunk(url: str) -> None:
    """Requests per second of a ten-row chunk, and what one costs the HTTP process."""
    with psycopg.connect(url, autocommit=True) as sql, running_server(url, workers=1) as server:
        sql.execute("CREATE TABLE small (id int PRIMARY KEY, name text, tenant int)")
        sql.execute("INSERT INTO small SELECT i, 'name ' || i, i FROM generate_series(1, 10) i")
        address = f"{server.shape_url}?table=small&offset=-1"
        assert httpx.get(address).status_code == 200
        worker = server.children()[1]
        uvloop.run(get_many(address, 2_000, 16))
        before = cpu_s(worker)
        seconds = uvloop.run(get_many(address, CHUNK_REQUESTS, 16))
        used = cpu_s(worker) - before
        print(
            f"cached 10-row chunk: {CHUNK_REQUESTS / seconds:,.0f} requests/s,"
            f" {used / CHUNK_REQUESTS * 1e6:.0f} µs server CPU per request (1 HTTP process, 16 connections)"
        )


def cold_shape(url: str) -> None:
    """A shape of 100,000 rows, from the first request to the last byte, compared with COPY of the same
    JSON.
    """
    with psycopg.connect(url, autocommit=True) as sql, running_server(url, workers=1) as server:
        make_big(sql, BIG_ROWS)
        copies = [timed(lambda: copy_to_nowhere(sql)) for _ in range(3)]
        colds = []
        for number in range(3):
            query = {"table": "big", "where": f"id > {-number}"}
            with httpx.Client(timeout=120) as client:
                colds.append(timed(partial(read_all, client, server, query)))
        copy, cold = min(copies), min(colds)
        print(
            f"cold shape of {BIG_ROWS:,} rows: {cold:.3f} s; COPY of the same JSON to nowhere: {copy:.3f} s;"
            f" ratio {cold / copy:.2f} (best of 3)"
        )


def make_big(sql: psycopg.Connection, rows: int) -> None:
    """The table `big`."""
    sql.execute("CREATE TABLE big (id int PRIMARY KEY, name text, tenant int)")
    sql.execute(
        "INSERT INTO big SELECT i, 'a name of some length ' || i, i %% 1000 FROM generate_series(1, %s) i",
        (rows,),
    )
    sql.execute("VACUUM ANALYZE big")


def copy_to_nowhere(sql: psycopg.Connection) -> None:
    """Read the bytes and discard them."""
    with sql.cursor().copy(COPY_JSON) as copy:
        while copy.read():
            """Only the time counts."""


def read_all(client: httpx.Client, server: Server, params: dict[str, str]) -> int:
    """Read a shape until up to date; the number of bytes."""
    offset, handle, size = "-1", "", 0
    while True:
        given = params | {"offset": offset} | ({"handle": handle} if handle else {})
        answer = client.get(server.shape_url, params=given)
        assert answer.status_code == 200, answer.text[:200]
        size += len(answer.content)
        offset, handle = answer.headers["electric-offset"], answer.headers["electric-handle"]
        if "electric-up-to-date" in answer.headers:
            return size


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def latency(url: str) -> None:
    """From the moment COMMIT returns to a held poll's body, one client."""
    with (
        psycopg.connect(url, autocommit=True) as sql,
        running_server(url, workers=1) as server,
        httpx.Client(timeout=60) as client,
    ):
        sql.execute("CREATE TABLE small (id int PRIMARY KEY, name text, tenant int)")
        answer = client.get(server.shape_url, params={"table": "small", "offset": "-1"})
        handle, offset = answer.headers["electric-handle"], "0_0"
        samples = []
        for number in range(LATENCY_SAMPLES):
            committed: list[float] = []

            def commit(number: int = number, committed: list[float] = committed) -> None:
                time.sleep(0.01)
                sql.execute("INSERT INTO small VALUES (%s, 'x', 1)", (number,))
                committed.append(time.perf_counter())

            thread = threading.Thread(target=commit)
            thread.start()
            params = {"table": "small", "handle": handle, "offset": offset, "live": "true"}
            answer = client.get(server.shape_url, params=params)
            arrived = time.perf_counter()
            thread.join()
            offset = answer.headers["electric-offset"]
            samples.append((arrived - committed[0]) * 1000)
        samples.sort()
        print(
            f"commit to long-poll body: p50 {statistics.median(samples):.2f} ms,"
            f" p99 {samples[int(len(samples) * 0.99)]:.2f} ms ({LATENCY_SAMPLES} samples, 1 HTTP process;"
            " the clock starts when the client sees COMMIT, the change may arrive before that)"
        )


def rows_in(url: str) -> None:
    """Rows per second through routing and logs, with a thousand equality shapes."""
    with psycopg.connect(url, autocommit=True) as sql, running_server(url, workers=1) as server:
        sql.execute("CREATE TABLE rows_in (id bigint PRIMARY KEY, name text, tenant_id int)")
        made = timed(lambda: asyncio.run(create_shapes(server, TENANTS)))
        print(f"{TENANTS:,} shapes created in {made:.2f} s ({TENANTS / made:,.0f}/s, 20 clients)")
        replicator = server.children()[0]
        # Every shape gets its files before the clock starts.
        warm_up = TENANTS // ROWS_EACH
        write(sql, range(warm_up))
        wait_until_seen(server, sql)
        before, started = cpu_s(replicator), time.perf_counter()
        write(sql, range(warm_up, warm_up + TRANSACTIONS))
        wait_until_seen(server, sql)
        seconds, used = time.perf_counter() - started, cpu_s(replicator) - before
        rows = TRANSACTIONS * ROWS_EACH
        print(
            f"rows in, transactions of {ROWS_EACH}, {TENANTS:,} equality shapes:"
            f" {rows / seconds:,.0f} rows/s,"
            f" {used / rows * 1e6:.0f} µs replicator CPU per row"
        )


def write(sql: psycopg.Connection, transactions: range) -> None:
    """Transactions of `ROWS_EACH` rows, each row of another tenant."""
    for number in transactions:
        sql.execute(
            "INSERT INTO rows_in SELECT %s + i, 'a name ' || i, (%s + i) %% %s FROM generate_series(1, %s) i",
            (number * ROWS_EACH, number * ROWS_EACH, TENANTS, ROWS_EACH),
        )


async def create_shapes(server: Server, count: int) -> None:
    """Shapes `tenant_id = N`, by twenty clients."""
    numbers = iter(range(count))
    async with httpx.AsyncClient(timeout=60) as client:

        async def create() -> None:
            for number in numbers:
                params = {"table": "rows_in", "offset": "-1", "where": f"tenant_id = {number}"}
                answer = await client.get(server.shape_url, params=params)
                assert answer.status_code == 200, answer.text

        await asyncio.gather(*(create() for _ in range(20)))


def wait_until_seen(server: Server, sql: psycopg.Connection) -> None:
    """Wait until the last committed row is readable by clients."""
    last = sql.execute("SELECT id, tenant_id FROM rows_in ORDER BY id DESC LIMIT 1").fetchone()
    assert last is not None
    where = {"table": "rows_in", "where": f"tenant_id = {last[1]}"}
    with httpx.Client(timeout=60) as client:
        wanted = f'"id":"{last[0]}"'.encode()
        answer = client.get(server.shape_url, params={**where, "offset": "-1"})
        handle, offset = answer.headers["electric-handle"], "0_inf"
        while wanted not in answer.content:
            params = {**where, "offset": offset, "handle": handle, "live": "true"}
            answer = client.get(server.shape_url, params=params)
            offset = answer.headers["electric-offset"]


def memory(url: str) -> None:
    """Peak memory of each process while a shape of a million rows is made and read."""
    with psycopg.connect(url, autocommit=True) as sql, running_server(url, workers=1) as server:
        replicator, worker = server.children()[:2]
        print(f"memory, idle: replicator {peak_mb(replicator):.0f} MB, HTTP process {peak_mb(worker):.0f} MB")
        make_big(sql, HUGE_ROWS)
        with httpx.Client(timeout=300) as client:
            seconds = timed(lambda: read_all(client, server, {"table": "big"}))
        print(
            f"memory, after {HUGE_ROWS:,} rows synced in {seconds:.1f} s:"
            f" peak replicator {peak_mb(replicator):.0f} MB, HTTP process {peak_mb(worker):.0f} MB"
        )


if __name__ == "__main__":
    main()
