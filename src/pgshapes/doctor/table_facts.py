"""What the checks say about a relation. Pure."""

from __future__ import annotations

from typing import NamedTuple

from pgshapes.model.followable import Obstacle


class TableFacts(NamedTuple):
    """A relation, as the role that is connected sees it."""

    schema: str
    name: str
    kind: str
    """`relkind`: r table, p partitioned, v view, m materialized view, f foreign table, …"""
    key: tuple[str, ...]
    """The columns that identify a row; all if there is no key."""
    is_published: bool
    is_full: bool
    """Whether its replica identity is FULL, with that of its partitions."""
    obstacles: tuple[Obstacle, ...] = ()
    """Why it cannot be followed; empty if it can."""
