"""The registry of statement forms, and what a form draws from.

A form is a function that returns a statement, or None where the database has nothing for it. `weight` is how
often it is drawn; most statements must be valid, not all: what Postgres refuses ends its transaction.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tests.oracle.ddl.catalog import Catalog, Column, Table, quoted
from tests.oracle.ddl.statements import Kind, Statement

Item = TypeVar("Item")


@dataclass
class Draw:
    """The random numbers, the catalog, and numbers that make values and names different."""

    pick: random.Random
    catalog: Catalog
    version: int
    publication: str
    number: int = 1000
    without: frozenset[Kind] = frozenset()
    """Kinds that are not drawn."""

    def next(self) -> int:
        """A number that was not given before."""
        self.number += 1
        return self.number

    def name(self, prefix: str) -> str:
        """A name that was not given before."""
        return f"{prefix}{self.next()}"

    def any(self, items: Iterable[Item]) -> Item | None:
        """One of the items; None if there are none."""
        all_ = list(items)
        return self.pick.choice(all_) if all_ else None

    def table(self, *, is_leaf: bool | None = False) -> Table | None:
        """A table; with `is_leaf` None also a partition, with True nothing else."""
        tables = self.catalog.tables.values()
        return self.any(one for one in tables if is_leaf is None or one.is_partition == is_leaf)

    def column(self, table: Table | None, *, is_key: bool = False) -> Column | None:
        """A column that a statement may change: neither inherited nor of the partition key."""
        if table is None:
            return None
        return self.any(
            one
            for one in table.columns
            if not one.is_inherited and one.name not in table.partition_key
            if is_key or one.name not in table.key
        )


Form = Callable[[Draw], Statement | None]


@dataclass(frozen=True)
class WeightedForm:
    """A form, how often it is drawn, and from which version on."""

    make: Form
    weight: float
    since: int


FORMS: list[WeightedForm] = []


def form(weight: float = 1.0, since: int = 14) -> Callable[[Form], Form]:
    """Register a form."""

    def register(make: Form) -> Form:
        FORMS.append(WeightedForm(make, weight, since))
        return make

    return register


def alter(kind: Kind, table: Table, action: str, *columns: str, reads: Iterable[str] = ()) -> Statement:
    """An ALTER TABLE; `columns` are those that it changes."""
    return Statement(kind, f"ALTER TABLE {table.full_name} {action}", (table.full_name,), (*columns, *reads))


def alter_column(kind: Kind, table: Table, column: Column, action: str) -> Statement:
    """An ALTER TABLE … ALTER COLUMN."""
    return alter(kind, table, f"ALTER COLUMN {quoted(column.name)} {action}", column.name)
