"""A shape's definition: what a client asks for, and what it means once it is checked against the
catalogue.
"""

from __future__ import annotations

from typing import NamedTuple


class RawShape(NamedTuple):
    """A definition as the client wrote it, after syntax checks that need no catalogue.

    Equal raw definitions mean equal shapes as long as the relation's generation is the same.
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

    relation_oid: int
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


class ResolvedShape(NamedTuple):
    """What a caller needs to ask for a shape and to answer for it."""

    definition: ShapeDefinition
    comparable: bytes
    """Canonical bytes that decide equality of shapes."""
    relation_generation: int
    schema_header: bytes
    """The value of `electric-schema`: JSON, latin-1 safe."""
