"""Definitions for tests."""

from __future__ import annotations

from pgshapes.model.shape import RelationVersion, ResolvedShape, ShapeDefinition


def shape_of(table: str = "items", *, oid: int = 1) -> ResolvedShape:
    """A resolved shape on a table."""
    definition = ShapeDefinition((oid,), "public", table, ("id",), ("id",), None, True, "default", "full")
    versions = (RelationVersion(oid, "public", table, 1),)
    return ResolvedShape(definition, f"1:{table}".encode(), versions, b"{}")
