"""What does the look at the system catalogs cost, and how soon is DDL noticed while nobody writes?

    python -m bench.catalog_watch --tables 100 --seconds 60

The server is in one process, with one shape on each table. The cost is the CPU time, user and system, of the
server and of the Postgres backends that serve it, with the looks every 2 s less that with none: first while
nobody writes, then while transactions end at another table between all looks, which are then complete. The
time is from the end of ALTER TABLE to the 409 of a held request.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import click
import httpx
import psycopg
from bench import proc
from tests.support.clients.materialised import Materialised
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.owner.catalog_watch import WATCH_INTERVAL_S

SERVER = "tests.support.servers.frequent_checks_server"
NEVER_S = 1e6
BUSY_INTERVAL_S = 0.5
COLUMNS = ", ".join(f"c{number} text" for number in range(9))


@contextmanager
def followed(
    tables: int, interval_s: float
) -> Iterator[tuple[Server, list[Materialised], psycopg.Connection]]:
    """A server that looks at this interval, with a shape on each table."""
    os.environ["WATCH_INTERVAL_S"] = str(interval_s)
    with (
        EmbeddedPostgres(settings=SERVER_SETTINGS) as postgres,
        fresh_database(postgres) as url,
        psycopg.connect(url, autocommit=True) as sql,
        running_server(url, module=SERVER) as server,
        httpx.Client() as client,
    ):
        shapes = []
        for number in range(tables):
            sql.execute(f"CREATE TABLE t{number} (id int PRIMARY KEY, {COLUMNS})")
            shapes.append(Materialised(server.shape_url, {"table": f"t{number}"}))
            shapes[-1].catch_up(client)
        yield server, shapes, sql


def cpu_ms(pids: list[int]) -> float:
    """CPU time of these processes, user and system; resolution 10 ms."""
    return sum(map(proc.cpu_s, pids)) * 1000


def cost(tables: int, seconds: float, interval_s: float, *, is_busy: bool) -> tuple[float, float]:
    """CPU ms per second of the server and of its backends while nothing happens to the tables."""
    with followed(tables, interval_s) as (server, _, sql):
        sql.execute("CREATE TABLE other (id int)")
        sql.execute("INSERT INTO other VALUES (0)")
        time.sleep(2 * WATCH_INTERVAL_S)
        query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgshapes%'"
        backends = [row[0] for row in sql.execute(query)]
        assert server.process is not None
        ours = [server.process.pid]
        before, end = (cpu_ms(ours), cpu_ms(backends)), time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(BUSY_INTERVAL_S)
            if is_busy:
                sql.execute("UPDATE other SET id = id + 1")
        return (cpu_ms(ours) - before[0]) / seconds, (cpu_ms(backends) - before[1]) / seconds


def notice_times(tables: int, count: int) -> list[float]:
    """Seconds from DDL on a table without writers to the 409 of a held request."""
    times = []
    with followed(tables, WATCH_INTERVAL_S) as (_, shapes, sql), ThreadPoolExecutor(1) as thread:
        for shape in shapes[:count]:
            params = {
                **shape.params,
                "handle": shape.handle or "",
                "offset": str(shape.offset),
                "live": "true",
            }
            answer = thread.submit(httpx.get, shape.shape_url, params=params, timeout=60)
            time.sleep(0.2)
            sql.execute(f"ALTER TABLE {shape.params['table']} ALTER c1 TYPE text USING upper(c1)")
            begin = time.perf_counter()
            assert answer.result().status_code == 409
            times.append(time.perf_counter() - begin)
    return sorted(times)


@click.command()
@click.option("--tables", default=100, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="How long each server is measured.")
@click.option("--changes", default=20, show_default=True, help="How many tables are altered.")
def main(tables: int, seconds: float, changes: int) -> None:
    """Measure and print."""
    print(f"{proc.conditions()}; Python {platform.python_version()}")
    print(f"{tables} tables with a shape each, a look every {WATCH_INTERVAL_S:g} s, {seconds:.0f} s each")
    for is_busy, state in ((False, "idle"), (True, "busy")):
        looking = cost(tables, seconds, WATCH_INTERVAL_S, is_busy=is_busy)
        alone = cost(tables, seconds, NEVER_S, is_busy=is_busy)
        for name, with_looks, without in zip(("server", "Postgres backends"), looking, alone, strict=True):
            parts = f"({with_looks:.2f} - {without:.2f})"
            print(f"  {state}: CPU of the {name:18} {with_looks - without:.2f} ms per second {parts}")
    times = notice_times(tables, min(changes, tables))
    print(f"  ALTER TABLE to 409         p50 {times[len(times) // 2]:.2f} s, longest {times[-1]:.2f} s")


if __name__ == "__main__":
    main()
