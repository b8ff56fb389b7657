"""The type and collation of a relation's columns, as a clause sees them."""

from __future__ import annotations

from pgshapes.model.relation import Column
from pgshapes.where.collation import C, Collation
from pgshapes.where.pg_catalog import NAME, TYPES, PgType, enum_type


def column_type(column: Column) -> PgType:
    """The column's type; the base type for a domain. Types of extensions and users get a stand-in without
    operators.
    """
    oid = column.base_type_oid if column.type_kind == "d" else column.type_oid
    if oid in TYPES:
        return TYPES[oid]
    if column.type_kind == "e":
        return enum_type(column.type_oid, column.type_name)
    return PgType(oid, column.type_name, column.type_kind, "U", False, 0, False)


def column_collation(column: Column) -> Collation | None:
    """The collation that comparisons of the column follow, None if its type has none."""
    if column_type(column).oid == NAME:
        return C
    if column.collation is None:
        return None
    return Collation(column.collation, column.collation_provider, column.is_deterministic_collation)
