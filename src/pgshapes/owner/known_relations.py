"""The table `relations`: what callers know of the catalogue without asking. Its one writer.

Who finds out that a table is not what it was forgets it here, so that neither callers nor the schema cache
go on with what they remember; the next request looks it up. Owned by the replicator's loop.
"""

from __future__ import annotations

from typing import Protocol

from pgshapes.model.relation import Relation
from pgshapes.tables.tables import Tables


class Forgetful(Protocol):
    """The schema cache, as far as it is told to forget."""

    def clean(self, oid: int | None) -> None:
        """Forget a table."""


class KnownRelations:
    """Publishes relations, and withdraws them."""

    def __init__(self, inspector: Forgetful, tables: Tables) -> None:
        self._inspector = inspector
        self._tables = tables

    def publish(self, relation: Relation) -> None:
        """Let callers know a relation."""
        name = (relation.schema, relation.name)
        if self._tables.relations.get(name) != relation:
            self._tables.relations.put(name, relation)

    def forget(self, oid: int) -> None:
        """A table may not be what it was."""
        self._inspector.clean(oid)
        for name, relation in list(self._tables.relations.items()):
            if relation.oid == oid:
                self._tables.relations.remove(name)
