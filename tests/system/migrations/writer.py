"""An application that goes on writing while its tables are migrated.

Its statements fit any table: values are copied from row to row, rows are added as copies with a key of their
own, and only these are deleted, so that no later statement of a migration meets a row that it cannot take.
What Postgres refuses, such as a copy of a unique value, is skipped.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from tests.oracle.ddl.catalog import Catalog, Table, quoted

_LOCK_TIMEOUT_MS = 500
_PAUSE_S = 0.003


class Writer:
    """A thread that writes while it is not held."""

    def __init__(self, url: str, seed: int) -> None:
        self.catalog = Catalog()
        self.written = 0
        self._pick = random.Random(seed)
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}")
        self._own: list[str] = []
        """Statements that delete its own rows."""
        self._turn = threading.Lock()
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write during the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._is_stopped.set()
            self._thread.join()
            self._connection.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Write nothing during the block."""
        with self._turn:
            yield

    def _run(self) -> None:
        while not self._is_stopped.wait(_PAUSE_S):
            with self._turn:
                self._write()

    def _write(self) -> None:
        # A copy in a table without a key could not be told from its original.
        tables = [one for one in self.catalog.tables.values() if one.key]
        if not tables:
            return
        table = self._pick.choice(tables)
        try:
            if self._own and self._pick.random() < 0.3:
                self._connection.execute(self._own.pop().encode())
            elif self._pick.random() < 0.4:
                self._copy_row(table)
            else:
                self._copy_value(table)
            self.written += 1
        except psycopg.Error:
            """Refused; the next statement may fit."""

    def _copy_value(self, table: Table) -> None:
        columns = [one for one in table.columns if not one.generated and one.name not in table.key]
        if not columns:
            return
        name = quoted(self._pick.choice(columns).name)
        value = f"SELECT {name} FROM {table.full_name} ORDER BY 1 OFFSET {self._pick.randint(0, 5)} LIMIT 1"
        change = f"{name} = coalesce(({value}), {name})"
        self._connection.execute(f"UPDATE {table.full_name} SET {change} WHERE {self._row(table)}".encode())

    def _copy_row(self, table: Table) -> None:
        if len(table.key) != 1:
            return
        key = quoted(table.key[0])
        listed = ", ".join(
            quoted(one.name) for one in table.columns if not one.generated and one.name not in table.key
        )
        found = self._connection.execute(
            f"INSERT INTO {table.full_name} ({listed}) SELECT {listed} FROM {table.full_name}"
            f" WHERE {self._row(table)} RETURNING {key}::text".encode()
        ).fetchone()
        if found is not None:
            self._own.append(f"DELETE FROM {table.full_name} WHERE {key}::text = '{found[0]}'")

    def _row(self, table: Table) -> str:
        rows = f"SELECT tableoid, ctid FROM {table.full_name} OFFSET {self._pick.randint(0, 8)} LIMIT 1"
        return f"(tableoid, ctid) IN ({rows})"
