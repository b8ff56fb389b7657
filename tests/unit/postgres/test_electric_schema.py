"""The attributes of columns in `electric-schema`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgshapes.model.relation import Column, Relation
from pgshapes.postgres.electric_schema import describe_column, schema_header


def column(name: str, type_name: str, typmod: int = -1, **others: Any) -> Column:
    given: dict[str, Any] = {
        "type_oid": 0,
        "type_kind": "b",
        "dims": 0,
        "element_type_name": None,
        "not_null": False,
        "pk_index": None,
        "is_generated": False,
    } | others
    return Column(name=name, type_name=type_name, typmod=typmod, **given)


@pytest.mark.parametrize(
    ("given", "described"),
    [
        (column("a", "int4", not_null=True, pk_index=0), {"type": "int4", "pk_index": 0, "not_null": True}),
        (column("a", "varchar", 24), {"type": "varchar", "max_length": 20}),
        (column("a", "bpchar", 9), {"type": "bpchar", "length": 5}),
        (column("a", "varbit"), {"type": "varbit", "length": -1}),
        (column("a", "bit", 3), {"type": "bit", "length": 3}),
        (column("a", "timetz", 3), {"type": "timetz", "precision": 3}),
        (column("a", "timestamp", 0), {"type": "timestamp", "type_mod": 0}),
        (column("a", "numeric", 655366), {"type": "numeric", "precision": 10, "scale": 2}),
        (column("a", "numeric", 329730), {"type": "numeric", "precision": 5, "scale": -2}),
        (column("a", "geometry", 7), {"type": "geometry", "type_mod": 7}),
        (column("a", "_int4", dims=0, element_type_name="int4"), {"type": "_int4"}),
        (
            column("a", "_varchar", 24, dims=2, element_type_name="varchar"),
            {"type": "varchar", "dims": 2, "max_length": 20},
        ),
        (column("a", "interval", 470286339), {"type": "interval", "fields": "DAY TO SECOND", "precision": 3}),
        (column("a", "interval", 0x7FFF0002), {"type": "interval", "precision": 2}),
        (column("a", "interval", (1 << 2 << 16) | 0xFFFF), {"type": "interval", "fields": "YEAR"}),
    ],
)
def test_a_column_is_described_as_the_protocol_says(given: Column, described: dict[str, object]) -> None:
    assert describe_column(given) == described


def test_the_header_holds_the_selected_columns_in_ascii() -> None:
    columns = (column("id", "int4"), column("größe\n", "text"), column("other", "text"))
    relation = Relation(1, "public", "t", "r", columns, ("id",), 1)
    header = schema_header(relation, ["größe\n", "id"])
    assert json.loads(header) == {"größe\n": {"type": "text"}, "id": {"type": "int4"}}
    assert header.isascii()
    assert b"\n" not in header
