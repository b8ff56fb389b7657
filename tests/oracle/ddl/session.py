"""A session of the database's owner: runs statements, and knows which of them a commit has made effective."""

from __future__ import annotations

import time
from typing import NamedTuple

import psycopg
from psycopg.pq import TransactionStatus
from tests.oracle.ddl.catalog import Catalog, read_catalog
from tests.oracle.ddl.statements import Kind, Statement

LOCK_TIMEOUT_MS = 2000
"""The server's own locks are held for less; a session that waits for the other one gives up."""


class Effect(NamedTuple):
    """A statement that has run."""

    statement: Statement
    oids: frozenset[int]
    """The tables that it named, by the catalog before it."""
    catalog: Catalog
    """The catalog before it."""
    began: float
    """`time.monotonic()` before it."""


class Session:
    """One connection. Effects are those of the transaction, without savepoints that were rolled back."""

    def __init__(self, url: str, publication: str, schemas: tuple[str, ...]) -> None:
        self._publication = publication
        self._schemas = schemas
        self._connection = psycopg.connect(url, autocommit=True)
        # Without the schema public the names of its types are qualified.
        path = "public" if "public" in schemas else "pg_catalog"
        self._connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}; SET search_path = {path}")
        self.before: Catalog
        """The catalog before its last statement, as the session saw it."""
        self._seen: Catalog | None = None
        """The catalog in the open transaction, as long as nothing else has run in it."""
        self._effects: list[Effect] = []
        self._marks: list[int] = []

    @property
    def is_idle(self) -> bool:
        """Whether it is in no transaction."""
        return self._status is TransactionStatus.IDLE

    @property
    def has_failed(self) -> bool:
        """Whether its transaction can only be rolled back."""
        return self._status is TransactionStatus.INERROR

    @property
    def _status(self) -> TransactionStatus:
        return self._connection.info.transaction_status

    def run(self, statement: Statement, catalog: Catalog) -> psycopg.Error | None:
        """Run a statement; `catalog` is the one of all sessions. The error if Postgres refuses it."""
        seen = catalog if self._status is not TransactionStatus.INTRANS else self.catalog()
        tables = (seen.named(name) for name in statement.tables)
        effect = Effect(statement, frozenset(one.oid for one in tables if one), seen, time.monotonic())
        self.before = seen
        if statement.kind is not Kind.DML:
            self._seen = None
        try:
            self._connection.execute(statement.sql.encode())
        except psycopg.Error as error:
            return error
        if statement.kind is Kind.CONTROL:
            self._control(statement.sql)
        else:
            self._effects.append(effect)
        return None

    def catalog(self) -> Catalog:
        """The catalog as the open transaction sees it."""
        self._seen = self._seen or read_catalog(self._connection, self._publication, self._schemas)
        return self._seen

    @property
    def open_effects(self) -> tuple[Effect, ...]:
        """The effects in its open transaction, which other sessions do not see yet."""
        return tuple(self._effects)

    def take_effects(self) -> list[Effect]:
        """The effects of what was committed since the last call."""
        taken, self._effects = self._effects, []
        return taken

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _control(self, sql: str) -> None:
        match sql:
            case "ROLLBACK":
                self._effects, self._marks = [], []
            case "COMMIT":
                self._marks = []
            case "SAVEPOINT s":
                self._marks.append(len(self._effects))
            case "ROLLBACK TO s":
                del self._effects[self._marks[-1] :]
