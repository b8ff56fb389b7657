"""The tables of the torture harness, and the shapes on them that clients follow.

The same definition is a request, a query of our client, options of the published client, and a SELECT, so
that what clients have can be compared with what Postgres has. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from tests.oracle.ddl.shapes import Shape

from pgshapes.client import Query
from pgshapes.model.quoting import quote_literal

FUNDS: Final = 20_000
"""What the balances of all accounts sum up to, after every transaction."""
ACCOUNTS: Final = 20
"""The accounts that are always there: ids from 1."""
FILL_ACCOUNTS: Final = (
    f"INSERT INTO accounts SELECT i, i % 3, {FUNDS // ACCOUNTS} FROM generate_series(1, {ACCOUNTS}) i"
)

TABLES: Final[dict[str, str]] = {
    "items": "(id int PRIMARY KEY, tenant int NOT NULL, n int, pad text)",
    "orders": "(region text, number int, amount numeric, status text, PRIMARY KEY (region, number))",
    "events": "(id int, day int, kind text, payload jsonb, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "things": "(code text NOT NULL, tags text[], j jsonb, price numeric(12, 3), note text)",
    "accounts": "(id int PRIMARY KEY, shard int NOT NULL, balance int NOT NULL)",
    "wide": "(id int PRIMARY KEY, n int NOT NULL, big text)",
    "docs": "(id int PRIMARY KEY, mood mood, born date, at timestamptz, score float8, ref uuid)",
}
DAYS: Final = (0, 10, 20, 30)
"""The bounds of the partitions of `events`."""

CREATE: Final[tuple[str, ...]] = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
    *(f"CREATE TABLE {name} {columns}" for name, columns in TABLES.items()),
    *(
        f"CREATE TABLE events_{low} PARTITION OF events FOR VALUES FROM ({low}) TO ({high})"
        for low, high in pairwise(DAYS)
    ),
    "CREATE UNIQUE INDEX things_code ON things (code)",
    FILL_ACCOUNTS,
)


@dataclass(frozen=True)
class Watched:
    """A shape that clients follow."""

    table: str
    where: str | None = None
    params: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    where_columns: tuple[str, ...] = ()
    is_full: bool = False
    is_changes_only: bool = False
    """The log has only changes, so a client has the rows that changed since it began."""
    total: int | None = None
    """The sum of the column `balance`, after every transaction."""

    @cached_property
    def shape(self) -> Shape:
        """The definition as rules and SELECT know it: values of parameters are put into the clause."""
        where = self.where
        for number, value in enumerate(self.params, start=1):
            where = (where or "").replace(f"${number}", quote_literal(value))
        return Shape(f"public.{self.table}", self.columns, where, self.where_columns, self.is_full)

    @cached_property
    def query(self) -> Query:
        """The definition for our client."""
        return Query(
            self.table,
            where=self.where,
            params=self.params,
            columns=self.columns,
            replica="full" if self.is_full else "default",
            log="changes_only" if self.is_changes_only else "full",
        )

    @cached_property
    def for_typescript(self) -> dict[str, Any]:
        """The definition for the published client."""
        params: dict[str, Any] = {"table": self.table}
        if self.where is not None:
            params["where"] = self.where
        if self.params:
            params["params"] = list(self.params)
        if self.columns is not None:
            params["columns"] = list(self.columns)
        if self.is_full:
            params["replica"] = "full"
        return {"params": params, "log": "changes_only" if self.is_changes_only else "full"}

    @property
    def has_arrays(self) -> bool:
        """Whether a selected column is an array, which the published client always parses."""
        return self.table == "things" and (self.columns is None or "tags" in self.columns)

    @cached_property
    def select(self) -> str:
        """The SELECT of its rows."""
        listed = "*" if self.columns is None else ", ".join(self.columns)
        clause = f" WHERE {self.shape.where}" if self.shape.where else ""
        return f"SELECT {listed} FROM public.{self.table}{clause}"

    def __str__(self) -> str:
        return str(self.shape) + (" log=changes_only" if self.is_changes_only else "")


WATCHED: Final[tuple[Watched, ...]] = (
    Watched("accounts", total=FUNDS),
    Watched("items"),
    Watched("items", "tenant = 2", where_columns=("tenant",)),
    Watched("items", "tenant IN (1, 3)", where_columns=("tenant",)),
    Watched("items", "tenant = $1 AND n > $2", ("4", "500"), where_columns=("tenant", "n")),
    Watched("items", "pad LIKE 'x%'", where_columns=("pad",)),
    Watched("items", "pad IS NULL", where_columns=("pad",)),
    Watched("items", "n % 2 = 0", columns=("id", "n"), where_columns=("n",)),
    Watched("items", "n BETWEEN 100 AND 600", is_full=True, where_columns=("n",)),
    Watched("items", "tenant > 2", is_changes_only=True, where_columns=("tenant",)),
    Watched("accounts", is_full=True, total=FUNDS),
    Watched("accounts", columns=("id", "balance"), total=FUNDS),
    Watched("accounts", "shard = 1", where_columns=("shard",)),
    Watched("orders"),
    Watched("orders", "region = 'eu'", where_columns=("region",)),
    Watched("orders", "amount > 100.5", columns=("region", "number", "amount"), where_columns=("amount",)),
    Watched("orders", "status ILIKE 'op%' OR status IS NULL", where_columns=("status",)),
    Watched("events"),
    Watched("events", "day < 10 AND kind <> 'b'", where_columns=("day", "kind")),
    Watched("events", "kind = ANY ('{a,c}')", is_full=True, where_columns=("kind",)),
    Watched("events", "payload->>'k' = '1'", where_columns=("payload",)),
    Watched("things"),
    Watched("things", "'red' = ANY (tags)", where_columns=("tags",)),
    Watched("things", "tags @> ARRAY['blue', 'red']", where_columns=("tags",)),
    Watched("things", "price BETWEEN 10.25 AND 500", columns=("code", "price"), where_columns=("price",)),
    Watched("things", "note IS NOT NULL", columns=("code", "note"), is_full=True, where_columns=("note",)),
    Watched("wide"),
    Watched("wide", "n < 50", where_columns=("n",)),
    Watched("docs"),
    Watched("docs", "mood = 'ok'", where_columns=("mood",)),
    Watched("docs", "born > '2001-06-15'", columns=("id", "born"), where_columns=("born",)),
)
