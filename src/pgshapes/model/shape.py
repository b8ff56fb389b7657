"""A shape's definition: what a client asks for, and what it means once it is checked against the system
catalogs.
"""

from __future__ import annotations

from typing import NamedTuple


class RawShape(NamedTuple):
    """A definition as the client wrote it, after the checks that need no database.

    Equal raw definitions mean equal shapes as long as the generations of their relations are the same.
    """

    schema: str
    table: str
    """Schema and table, unquoted and lower-cased as the identifier rules say."""
    where: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    """(key, value) of `params[key]=value`, sorted by key; keys are checked when the clause is."""
    columns: tuple[str, ...] | None = None
    queryable_columns: tuple[str, ...] | None = None
    replica: str = "default"
    """`default` or `full`."""
    log: str = "full"
    """`full` or `changes_only`."""


class ShapeDefinition(NamedTuple):
    """A checked definition. Everything here is part of the identity."""

    relation_oids: tuple[int, ...]
    """The relations whose rows decide what the shape contains; the first is the table itself.

    Definitions are checked, published, stored and looked after for all of them. Routing knows the first one
    only, and so does the decision whether a table may leave the publication.
    """
    schema: str
    table: str
    key_columns: tuple[str, ...]
    columns: tuple[str, ...]
    """Selected columns, sorted by name."""
    where: str | None
    """Normalised SQL of the clause with parameters put in, or None."""
    selects_all_columns: bool
    replica: str
    log: str

    @property
    def table_oid(self) -> int:
        """The table whose rows the shape has."""
        return self.relation_oids[0]


class RelationVersion(NamedTuple):
    """A relation as a definition was checked against it."""

    oid: int
    schema: str
    name: str
    generation: int
    """`Relation.generation`: if it differs, the definition must be checked again."""


class ResolvedShape(NamedTuple):
    """A checked definition with what a caller needs to request and serve its shape."""

    definition: ShapeDefinition
    comparable: bytes
    """Canonical bytes that decide equality of shapes."""
    relations: tuple[RelationVersion, ...]
    """The relations of the definition, in its order."""
    schema_header: bytes
    """The value of `electric-schema`: JSON, latin-1 safe."""


class Subset(NamedTuple):
    """A requested subset, after the checks that need no database; `where` and `order_by` are unchecked."""

    where: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    """(key, value) of the values for `$key` in `where`, sorted by key; keys are checked when the clause is.
    """
    order_by: str | None = None
    limit: int | None = None
    offset: int | None = None
