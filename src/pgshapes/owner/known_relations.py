"""Writes the table `relations`: the relations that callers can read without a call to the owner.

Code that finds out that a relation has changed invalidates it here, for callers and for the inspector's
cache; the next request looks it up again. State: the rows of `relations`, owned by the replicator's loop.
"""

from __future__ import annotations

from typing import Protocol

from pgshapes.model.relation import Relation
from pgshapes.tables.tables import Tables


class InvalidatesRelations(Protocol):
    """The inspector, as far as it is used here."""

    def clean(self, oid: int | None) -> None:
        """Drop what is cached about a relation; None stands for all relations."""


class KnownRelations:
    """The only writer of `relations`."""

    def __init__(self, inspector: InvalidatesRelations, tables: Tables) -> None:
        self._inspector = inspector
        self._tables = tables

    def publish(self, relation: Relation) -> None:
        """Add a relation or replace its row."""
        name = (relation.schema, relation.name)
        if self._tables.relations.get(name) != relation:
            self._tables.relations.put(name, relation)

    def invalidate(self, oid: int) -> None:
        """Remove a relation that may have changed, here and from the inspector's cache."""
        self._inspector.clean(oid)
        for name, relation in list(self._tables.relations.items()):
            if relation.oid == oid:
                self._tables.relations.remove(name)
