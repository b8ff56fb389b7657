"""How long does a snapshot of 100,000 rows take, compared with the same COPY to /dev/null on the server?

The difference is what our process and the socket cost; `python -m bench.snapshot [rows]`.
"""

from __future__ import annotations

import resource
import sys
import time

import uvloop

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.model.relation import Relation
from pgshapes.postgres.connection import Connection, ConnectionPool, connect
from pgshapes.postgres.inspector import Inspector
from pgshapes.postgres.rendering import copy_rows
from pgshapes.postgres.snapshot import SnapshotSource

TABLE = """
CREATE TABLE items (id int PRIMARY KEY, tenant_id int NOT NULL, name text, done bool, made timestamptz,
                    price numeric(12, 2), tag uuid);
INSERT INTO items SELECT n, n % 100, 'name number ' || n, n % 2 = 0, now(), n / 7.0, gen_random_uuid()
  FROM generate_series(1, {rows}) n;
VACUUM ANALYZE items
"""
REPEATS = 5


async def server_alone(connection: Connection, relation: Relation, columns: list[str]) -> float:
    """Seconds for the rows' JSON texts, discarded by the server."""
    sql = copy_rows(relation, columns, None).replace("TO STDOUT", "TO '/dev/null'")
    begin = time.perf_counter()
    await connection.execute(sql.encode())
    return time.perf_counter() - begin


async def ours(source: SnapshotSource, relation: Relation, columns: list[str]) -> tuple[float, float, int]:
    """Seconds, CPU seconds of this process, bytes."""
    begin, begin_cpu, size = time.perf_counter(), time.process_time(), 0
    async with source.open(relation) as snapshot:
        await snapshot.take()
        async for batch in snapshot.rows(copy_rows(relation, columns, None)):
            size += sum(map(len, batch))
    return time.perf_counter() - begin, time.process_time() - begin_cpu, size


async def measure(url: str, rows: int) -> None:
    pool = ConnectionPool(lambda: connect(url), 2)
    async with pool.connection() as connection:
        for statement in TABLE.format(rows=rows).split(";"):
            await connection.execute(statement.encode())
        relation = await Inspector(pool).relation("public", "items")
        columns = [column.name for column in relation.columns]
        alone = min([await server_alone(connection, relation, columns) for _ in range(REPEATS)])
        wall, cpu, size = min(
            [await ours(SnapshotSource(pool, publication="none"), relation, columns) for _ in range(REPEATS)]
        )
    await pool.close()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{rows} rows, {size / 1e6:.1f} MB of JSON (best of {REPEATS})")
    print(f"  server, COPY to /dev/null  {alone:.3f} s")
    print(f"  snapshot, rows in hand     {wall:.3f} s  ({rows / wall:,.0f} rows/s, {wall / alone:.2f}×)")
    print(f"  CPU of this process        {cpu / rows * 1e6:.2f} µs per row; peak memory {peak_mb:.0f} MB")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with EmbeddedPostgres() as server:
        uvloop.run(measure(server.url(), rows))


if __name__ == "__main__":
    main()
