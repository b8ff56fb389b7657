"""A table with a column of every type that clauses compute with, and rows for it."""

from __future__ import annotations

from pgshapes.model.change import Row
from pgshapes.model.relation import Column, Relation
from pgshapes.where.pg_catalog import TYPES_BY_NAME

TYPES = {
    "i2": "int2",
    "i4": "int4",
    "i8": "int8",
    "n": "numeric",
    "f4": "float4",
    "f8": "float8",
    "b": "bool",
    "t": "text",
    "v": "varchar",
    "bp": "bpchar",
    "u": "uuid",
    "d": "date",
    "tm": "time",
    "ts": "timestamp",
    "tz": "timestamptz",
    "iv": "interval",
    "by": "bytea",
    "j": "jsonb",
    "ia": "_int4",
    "ta": "_text",
    "na": "_numeric",
}
COLLATED = frozenset({"text", "varchar", "bpchar", "_text"})


def column(name: str, type_name: str, collation: str = "C", provider: str = "c") -> Column:
    """A column of a built-in type."""
    kind = TYPES_BY_NAME[type_name]
    return Column(
        name=name,
        type_oid=kind.oid,
        type_name=type_name,
        type_kind="b",
        typmod=-1,
        dims=1 if kind.is_array else 0,
        element_type_name=kind.element.name if kind.element else None,
        not_null=False,
        pk_index=None,
        is_generated=False,
        collation=collation if type_name in COLLATED else None,
        collation_provider=provider,
    )


ENUM = column("mood", "text", "C")._replace(type_oid=70_000, type_name="mood", type_kind="e", collation=None)
DOMAIN = column("age", "int4")._replace(
    type_oid=70_001, type_name="age_type", type_kind="d", base_type_oid=23
)
UNCOLLATED = column("w", "text", "en_US.UTF-8")
COMPOSITE = column("pair", "text")._replace(
    type_oid=70_002, type_name="pair_type", type_kind="c", collation=None
)
ADDRESS = column("ip", "inet")

RELATION = Relation(
    oid=50_000,
    schema="public",
    name="things",
    kind="r",
    columns=(
        *(column(name, kind) for name, kind in TYPES.items()),
        *(ENUM, DOMAIN, UNCOLLATED, COMPOSITE, ADDRESS),
    ),
    primary_key=("i8",),
    generation=1,
    server_version=160_000,
    database_collation="C",
)


def row(**texts: str) -> Row:
    """A row of `RELATION` with the given columns, NULL elsewhere."""
    return tuple(texts.get(one.name) for one in RELATION.columns)
