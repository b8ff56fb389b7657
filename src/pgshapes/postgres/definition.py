"""What a definition means on its table: its columns, its canonical form and its comparable. Pure.

Types and rights are not checked here (`owner/resolver.py`): a shape that exists has passed these checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from pgshapes.errors import RequestError
from pgshapes.model.relation import Relation
from pgshapes.model.shape import RawShape, RelationVersion, ResolvedShape, ShapeDefinition
from pgshapes.postgres.electric_schema import schema_header

# First bytes of every comparable; grows when the meaning of a definition changes.
_COMPARABLE_VERSION: Final = b"2:"


def resolved_shape(
    raw: RawShape, relation: Relation, columns: tuple[str, ...], where: str | None
) -> ResolvedShape:
    """The shape of a definition with these columns and this normalised clause."""
    definition = ShapeDefinition(
        relation_oids=(relation.oid,),
        schema=relation.schema,
        table=relation.name,
        key_columns=relation.key_columns,
        columns=tuple(sorted(columns)),
        where=where,
        selects_all_columns=raw.columns is None and raw.queryable_columns is None,
        replica=raw.replica,
        log=raw.log,
    )
    comparable = _COMPARABLE_VERSION + msgspec.json.encode(definition)
    version = RelationVersion(relation.oid, relation.schema, relation.name, relation.generation)
    return ResolvedShape(definition, comparable, (version,), schema_header(relation, columns))


def selected_columns(raw: RawShape, relation: Relation) -> tuple[str, ...]:
    """The columns of a shape, in the order of the request. Raises RequestError about `columns` and
    `queryable_columns`.
    """
    queryable = _queryable(raw, relation)
    wanted = queryable if raw.columns is None else tuple(dict.fromkeys(raw.columns))
    if not wanted:
        raise RequestError.field("columns", "The list of columns must not be empty")
    missing = [name for name in relation.key_columns if name not in wanted]
    if raw.columns is not None and missing:
        raise RequestError.field(
            "columns", f"The list of columns must include all primary key columns, missing: {listed(missing)}"
        )
    unknown = [name for name in wanted if name not in queryable]
    if unknown:
        raise RequestError.field(
            "columns", f"The following columns are not found on the table: {listed(unknown)}"
        )
    return wanted


def _queryable(raw: RawShape, relation: Relation) -> tuple[str, ...]:
    names = tuple(column.name for column in relation.columns)
    if raw.queryable_columns is None:
        return names
    field, wanted = "queryable_columns", raw.queryable_columns
    if not wanted:
        raise RequestError.field(field, "The list of queryable columns must not be empty")
    missing = [name for name in relation.primary_key if name not in wanted]
    if missing:
        raise RequestError.field(
            field,
            f"The list of queryable columns must include all primary key columns, missing: {listed(missing)}",
        )
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise RequestError.field(
            field, f"The following queryable columns are not found on the table: {listed(unknown)}"
        )
    return wanted


def listed(names: Iterable[str]) -> str:
    """Names for a message to the client."""
    return ", ".join(names)
