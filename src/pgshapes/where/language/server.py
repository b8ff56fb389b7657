"""What is known of the server that a clause is evaluated for."""

from __future__ import annotations

from typing import NamedTuple

from pgshapes.model.relation import Relation
from pgshapes.where.collation import Collation


class Server(NamedTuple):
    """The traits of a server that evaluation depends on."""

    collation: Collation | None
    """The database's default collation, which text that comes from no column has; None if not known."""
    version: int
    """`server_version_num`, 0 for the newest."""


def server_of(relation: Relation) -> Server:
    """The server that a relation lives on."""
    locale, provider = relation.database_collation, relation.database_collation_provider
    return Server(None if locale is None else Collation(locale, provider), relation.server_version)
