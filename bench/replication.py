"""How many rows per second are received: from the walsender through libpq, the decoder and the assembler.

`python -m bench.replication [rows]`. Each line adds a step to the one above, so the differences are the
costs of the steps. Postgres and this program share the machine's cores.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import psycopg
import uvloop

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.model.lsn import Lsn
from pgshapes.postgres.connection import connect_for_replication
from pgshapes.postgres.pgoutput import decode_message
from pgshapes.postgres.replication import OnMessage, ReplicationStream
from pgshapes.routing.assembler import TransactionAssembler

SETTINGS = {"max_wal_size": "8GB", "shared_buffers": "512MB"}
ROWS_PER_TRANSACTION = 100


def fill(sql: psycopg.Connection, rows: int) -> Lsn:
    """A slot, and after it that many rows of four columns; the position after them."""
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, name text, at timestamptz, note text)")
    sql.execute("ALTER TABLE t REPLICA IDENTITY FULL")
    sql.execute("CREATE PUBLICATION p FOR TABLE t")
    sql.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    statement = "INSERT INTO t SELECT i, 'name ' || i, now(), 'some note' FROM generate_series(%s::int, %s) i"
    for first in range(1, rows + 1, ROWS_PER_TRANSACTION):
        sql.execute(statement, (first, first + ROWS_PER_TRANSACTION - 1))
    row = sql.execute("SELECT pg_current_wal_flush_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])


async def follow(url: str, last: Lsn, on_message: OnMessage) -> tuple[float, float]:
    """Wall and CPU seconds until everything has arrived; nothing is acknowledged."""
    connection = await connect_for_replication(url)
    async with ReplicationStream(connection, slot="s", publication="p") as stream:
        await stream.start()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        running = asyncio.create_task(stream.run(on_message, lambda wal_end: None))
        while stream.received_lsn < last:
            await asyncio.sleep(0.002)
        spent = time.perf_counter() - wall_s, time.process_time() - cpu_s
        running.cancel()
        await asyncio.wait([running])
        return spent


def steps() -> dict[str, Callable[[], OnMessage]]:
    """What to do with each message, one step more at a time."""

    def received() -> OnMessage:
        return lambda payload, lsn: None

    def decoded() -> OnMessage:
        def on_message(payload: bytes, lsn: Lsn) -> None:
            decode_message(payload)

        return on_message

    def assembled() -> OnMessage:
        feed = TransactionAssembler().feed

        def on_message(payload: bytes, lsn: Lsn) -> None:
            feed(decode_message(payload), lsn)

        return on_message

    return {"received": received, "decoded": decoded, "assembled": assembled}


def main(rows: int) -> None:
    with EmbeddedPostgres(settings=SETTINGS) as server:
        with psycopg.connect(server.url(), autocommit=True) as sql:
            last = fill(sql, rows)
        print(f"{rows} rows, {ROWS_PER_TRANSACTION} per transaction")
        for name, on_message in steps().items():
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                wall_s, cpu_s = runner.run(follow(server.url(), last, on_message()))
            print(
                f"{name:>10}: {rows / wall_s:>9,.0f} rows/s, {cpu_s / rows * 1e6:5.2f} µs CPU of ours per row"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
