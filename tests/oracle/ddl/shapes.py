"""Definitions of shapes that the oracle follows, and the rows that Postgres has for them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Self

import psycopg
from psycopg import pq
from tests.oracle.ddl.catalog import Catalog, Table, quoted

Rows = frozenset[tuple[tuple[str, str | None], ...]]
"""The rows as sets of names with texts, as clients get them."""

VALUE_SETTINGS = (
    "SET bytea_output = 'hex'; SET DateStyle = 'ISO, DMY'; SET TimeZone = 'UTC'; SET extra_float_digits = 1;"
    "SET IntervalStyle = 'iso_8601'; SET search_path = pg_catalog"
)
"""The settings with which values are read (docs/semantics.md)."""


@dataclass(frozen=True)
class Shape:
    """What a client asks for."""

    table: str
    columns: tuple[str, ...] | None = None
    """The listed columns; None without a list."""
    where: str | None = None
    where_columns: tuple[str, ...] = ()
    is_full: bool = False

    @property
    def params(self) -> dict[str, str]:
        """The parameters of its requests."""
        given = {"table": self.table}
        if self.columns is not None:
            given["columns"] = ",".join(quoted(name) for name in self.columns)
        if self.where is not None:
            given["where"] = self.where
        if self.is_full:
            given["replica"] = "full"
        return given

    def reads(self, column: str) -> bool:
        """Whether the column is selected or in the clause."""
        return self.columns is None or column in self.columns or column in self.where_columns

    def as_json(self) -> dict[str, Any]:
        """The definition for a journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """The definition of a journal."""
        columns = record["columns"]
        record = record | {"where_columns": tuple(record["where_columns"])}
        return cls(**record | {"columns": None if columns is None else tuple(columns)})

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.params.items())


@dataclass(frozen=True)
class Expected:
    """What a client of a shape should have."""

    rows: Rows | None = None
    """None if Postgres has no such rows to give: the request must be refused."""
    has_equal_rows: bool = False
    reason: str = ""
    """Why there are no rows."""


def expected_rows(connection: psycopg.Connection[Any], shape: Shape, catalog: Catalog) -> Expected:
    """The rows that a SELECT finds, in the texts of the output functions."""
    table = catalog.named(shape.table)
    if table is None:
        return Expected(reason="the table does not exist")
    names = selected(shape, table)
    missing = [name for name in names if table.column(name) is None]
    if missing:
        return Expected(reason=f"there is no column {missing}")
    if not set(table.key).issubset(names):
        return Expected(reason="the key is not selected")
    listed = ", ".join(quoted(name) for name in names)
    clause = f" WHERE {shape.where}" if shape.where else ""
    result = connection.pgconn.exec_(f"SELECT {listed} FROM {table.full_name}{clause}".encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        return Expected(reason=result.error_message.decode())
    rows = Counter(
        tuple((name, _text(result.get_value(row, place))) for place, name in enumerate(names))
        for row in range(result.ntuples)
    )
    return Expected(frozenset(rows), has_equal_rows=max(rows.values(), default=1) > 1)


def selected(shape: Shape, table: Table) -> list[str]:
    """The names of the shape's columns in alphabetical order."""
    return sorted(shape.columns if shape.columns is not None else (one.name for one in table.columns))


def frozen(rows: dict[str, dict[str, str | None]]) -> Rows:
    """A client's rows as a set."""
    return frozenset(tuple(sorted(row.items())) for row in rows.values())


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
