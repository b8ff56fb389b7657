"""Writers that commit continuously until standard input ends.

Run as `python -m tests.support.postgres.writers URL TABLE WRITERS SEED PAUSE_S`.

Each transaction inserts, updates and deletes a few rows of a table `(id bigint primary key, tenant int, n
int, pad text)`; some use subtransactions that are rolled back, some are rolled back whole.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

CREATE = "CREATE TABLE {table} (id bigint PRIMARY KEY, tenant int NOT NULL, n int NOT NULL, pad text)"
IDS = 400


def write(url: str, table: str, seed: str, pause_s: float, stop: threading.Event) -> None:
    """One writer, with a pause of `pause_s` on average between two transactions."""
    random_ = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            with contextlib.suppress(psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
                transaction(connection, table, random_)
            time.sleep(random_.random() * 2 * pause_s)


def transaction(connection: psycopg.Connection, table: str, random_: random.Random) -> None:
    """One transaction of one to five statements."""
    with connection.transaction(force_rollback=random_.random() < 0.05):
        for _ in range(random_.randint(1, 5)):
            if random_.random() < 0.1:
                with connection.transaction(force_rollback=True):
                    statement(connection, table, random_)
            statement(connection, table, random_)


def statement(connection: psycopg.Connection, table: str, random_: random.Random) -> None:
    """One statement on one row."""
    row, tenant, n = random_.randint(1, IDS), random_.randint(1, 5), random_.randint(0, 10**6)
    pad = "x" * random_.choice((0, 10, 10, 10, 400))
    choice = random_.random()
    if choice < 0.4:
        connection.execute(
            f"INSERT INTO {table} VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
            (row, tenant, n, pad),
        )
    elif choice < 0.8:
        connection.execute(f"UPDATE {table} SET n = %s, tenant = %s WHERE id = %s", (n, tenant, row))
    elif choice < 0.85:
        connection.execute(
            f"UPDATE {table} SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM {table} WHERE id = %s)",
            (row + IDS, row, row + IDS),
        )
    else:
        connection.execute(f"DELETE FROM {table} WHERE id IN (%s, %s)", (row, row + IDS))


@contextlib.contextmanager
def writing(
    url: str, table: str, *, writers: int = 8, seed: int = 1, pause_s: float = 0.002
) -> Iterator[None]:
    """Run writers in a process of their own."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.postgres.writers",
            url,
            table,
            str(writers),
            str(seed),
            str(pause_s),
        ],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdin is not None
    try:
        yield
        assert process.poll() is None, "the writers have failed"
    finally:
        process.stdin.close()
        process.wait(30)


def main() -> None:
    """Write until standard input ends."""
    url, table, writers, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    pause_s = float(sys.argv[5])
    stop = threading.Event()
    threads = [
        threading.Thread(target=write, args=(url, table, f"{seed}/{number}", pause_s, stop))
        for number in range(writers)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
