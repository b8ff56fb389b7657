"""Runs the transactions of one writer on a connection of its own, straight to Postgres.

Each sequence of statements is drawn from numbers alone. After a lost connection the writer goes on with the
next transaction; whether the one before was committed is not asked, as clients are compared with a SELECT.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import psycopg
from tests.support.torture.judge import Judge
from tests.support.torture.statements import Transaction, draw_transaction

RECONNECT_S = 0.2


class Writer:
    """One writer."""

    def __init__(self, url: str, judge: Judge, pause_s: float) -> None:
        self._url = url
        self._judge = judge
        self._pause_s = pause_s
        self._connection: psycopg.AsyncConnection | None = None

    async def run(self, chance: Random, stop: asyncio.Event) -> None:
        """Commit transactions until `stop` is set."""
        while not stop.is_set():
            transaction = draw_transaction(chance)
            pause_s = chance.random() * 2 * self._pause_s
            await self._attempt(transaction)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _attempt(self, transaction: Transaction) -> None:
        totals = self._judge.totals
        try:
            connection = await self._connected()
        except psycopg.OperationalError:
            await asyncio.sleep(RECONNECT_S)
            return
        try:
            changes = await self._transact(connection, transaction)
        except psycopg.Error as error:
            totals.errors[str(error).partition("\n")[0][:100]] += 1
            totals.rolled_back += 1
            await self._recover(connection)
        else:
            totals.transactions += transaction.is_committed
            totals.changes += changes if transaction.is_committed else 0
            totals.rolled_back += not transaction.is_committed
        finally:
            # Also if the connection was lost during COMMIT: it may have been carried out.
            if transaction.is_committed and transaction.truncates:
                self._judge.demand_tables("truncate", transaction.truncates)

    async def _transact(self, connection: psycopg.AsyncConnection, transaction: Transaction) -> int:
        """Run a transaction; returns how many rows it has changed."""
        changes = 0
        await connection.execute("BEGIN")
        for statement in transaction.statements:
            # Statements are drawn from numbers, and none has a value from outside.
            cursor = await connection.execute(statement.encode())
            changes += max(cursor.rowcount, 0)
            self._judge.totals.statements += 1
        await connection.execute("COMMIT" if transaction.is_committed else "ROLLBACK")
        return changes

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, options="-c lock_timeout=5000"
            )
        return self._connection

    async def _recover(self, connection: psycopg.AsyncConnection) -> None:
        try:
            await connection.execute("ROLLBACK")
        except psycopg.Error:
            await self.close()
