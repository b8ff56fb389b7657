"""Writers that commit a set number of transactions, in bursts and pauses."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
from tests.support.postgres import writers

Transaction = Callable[[psycopg.Connection, str, random.Random], object]

WRITERS = 3
LONGEST_PAUSE_S = 0.1
"""Pause between two transactions, in which followers reach the end of the log."""


@contextmanager
def bursts(
    url: str, table: str, transactions: int | None = None, *, transaction: Transaction = writers.transaction
) -> Iterator[Callable[[], bool]]:
    """Write while the block runs; with a number of transactions until each writer has made them. Yields
    whether the writers are done.
    """
    stop = threading.Event()
    rounds = range(transactions) if transactions is not None else iter(stop.is_set, True)
    with ThreadPoolExecutor(WRITERS) as threads:
        written = [threads.submit(_write, url, table, rounds, seed, transaction) for seed in range(WRITERS)]
        try:
            yield lambda: all(one.done() for one in written)
        finally:
            stop.set()
        for one in written:
            one.result()


def _write(url: str, table: str, rounds: Iterable[object], seed: int, transaction: Transaction) -> None:
    chance = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in rounds:
            with contextlib.suppress(psycopg.errors.DeadlockDetected):
                transaction(connection, table, chance)
            time.sleep(chance.choice((0, chance.random() * LONGEST_PAUSE_S)))
