"""Definitions to ask for."""

from __future__ import annotations

from pgshapes.model.shape import ResolvedShape, ShapeDefinition


def shape_of(table: str = "items", *, oid: int = 1) -> ResolvedShape:
    """A resolved shape on a table."""
    definition = ShapeDefinition(oid, "public", table, ("id",), ("id",), None, True, "default", "full")
    return ResolvedShape(definition, f"1:{table}".encode(), 1, b"{}")
