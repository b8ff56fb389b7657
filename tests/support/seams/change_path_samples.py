"""Tables, shapes on them, and transactions in the form in which Postgres sends them, for the change path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final, NamedTuple

from tests.support.postgres.pgoutput_encoder import encode
from tests.support.seams.routing_samples import TYPES, announcement, column, relation

from pgshapes.model.change import Row
from pgshapes.model.lsn import Lsn
from pgshapes.model.relation import Relation
from pgshapes.postgres.pgoutput_messages import (
    Begin,
    Commit,
    Identity,
    Insert,
    Message,
    Tuple,
    Update,
)
from pgshapes.where.clause import Clause, clause_from_sql

TYPES.update(numeric=1700, jsonb=3802, _text=1009, timestamptz=1184)
_COLUMNS: Final = (
    column("id", pk_index=0),
    column("title", "text"),
    column("grade"),
    column("price", "numeric"),
    column("doc", "jsonb"),
    column("tags", "_text")._replace(element_type_name="text", dims=1, collation="C"),
    column("made", "timestamptz"),
)
A: Final = relation(*_COLUMNS, oid=20010, name="a")
B: Final = relation(*_COLUMNS, oid=20011, name="b")
C: Final = relation(*_COLUMNS, oid=20012, name="c")
ROOT: Final = relation(*_COLUMNS, oid=20013, name="root", kind="p")
LISTED: Final = "1.table.1"
"""How a table is published: the publication names it."""
MEMBERSHIPS: Final[dict[int, str]] = {20015: "1.schema.1"}
"""By oid, how it is published otherwise."""
LEAF: Final = relation(*_COLUMNS[1:], _COLUMNS[0], oid=20014, name="root_1")


class Sample(NamedTuple):
    """A shape."""

    table: Relation
    where: str | None = None
    replica: str = "default"
    columns: tuple[str, ...] | None = None
    """All if None."""
    takes_s: Callable[[Row], float] | None = None
    """How long its clause takes for a row."""
    insert_lsn: Lsn = 0
    """Of its snapshot."""
    is_late: bool = False
    """Whether it has no snapshot yet when the stream begins."""


SHAPES: Final[Mapping[str, Sample]] = {
    "a-all": Sample(A),
    "a-full": Sample(A, replica="full"),
    "a-grade": Sample(A, "grade = 1"),
    "a-in": Sample(A, "grade IN (1, 2) AND price > 1.5"),
    "a-price": Sample(A, "price = 2.50"),
    "a-null": Sample(A, "doc IS NULL OR doc ->> 'x' = 'y'"),
    "a-like": Sample(A, "title ILIKE 'T%' AND made > '2020-01-01'"),
    "a-tags": Sample(A, "'x' = ANY (tags)"),
    "a-two": Sample(A, "'x' = ANY (tags) AND grade = 1", replica="full"),
    "b-all": Sample(B),
    "b-grade": Sample(B, "grade = 1"),
    "b-like": Sample(B, "title LIKE 'T%'"),
    "c-all": Sample(C),
    "c-grade": Sample(C, "grade = 1"),
    "r-all": Sample(ROOT),
    "r-grade": Sample(ROOT, "grade = 1"),
}


def handles_of(shapes: Iterable[str]) -> dict[str, str]:
    """A handle for each shape, by name."""
    return {name: f"{number:039d}" for number, name in enumerate(shapes, 1)}


HANDLES: Final = handles_of(SHAPES)


def row(number: int, grade: int, title: str = "The", **others: str | None) -> Tuple:
    """A row of any of the tables but the leaf."""
    values: dict[str, str | None] = {
        "id": str(number), "title": title, "grade": str(grade), "price": "2.5", "doc": '{"x": "y"}',
        "tags": "{x,NULL}", "made": "2024-01-01 00:00:00+00", **others,
    }  # fmt: skip
    return tuple(values.values())


def leaf_row(number: int, grade: int) -> Tuple:
    """A row of the leaf, whose columns have another order."""
    return (*row(number, grade)[1:], str(number))


def update(oid: int, old: Tuple, new: Tuple) -> Update:
    """An update with the whole old row."""
    return Update(oid, Identity.FULL, old, new)


def transaction(lsn: Lsn, *messages: Message) -> list[bytes]:
    """The messages of a transaction as Postgres sends them."""
    return [*map(encode, (Begin(lsn, 0, lsn // 100), *messages, Commit(lsn, lsn + 50, 0)))]


def background(lsn: Lsn) -> list[bytes]:
    """Changes of all tables that continue."""
    tables = (A.oid, B.oid, C.oid)
    inserts = [Insert(oid, row(lsn, grade)) for oid in tables for grade in (1, 3)]
    return transaction(lsn, *inserts, Insert(LEAF.oid, leaf_row(lsn, 1)))


ANNOUNCING: Final = transaction(
    1000,
    *(announcement(table) for table in (A, B, C, LEAF)),
    *(Insert(oid, row(1, 1)) for oid in (A.oid, B.oid, C.oid)),
)
"""The first transaction."""
FIRST: Final = [*ANNOUNCING, *background(1100)]
LAST: Final = [*background(3000), *background(3100)]
END: Final = 3150


@cache
def clause_of(sample: Sample) -> Clause | None:
    """The clause of a shape."""
    return None if sample.where is None else clause_from_sql(sample.where, sample.table)
