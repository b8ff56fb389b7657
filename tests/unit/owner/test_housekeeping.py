"""What a round of housekeeping ends, and what it leaves to creations."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from tests.support.seams.routing_samples import ROOT, new_router, registered

from pgshapes.model.relation import Relation
from pgshapes.model.shape_state import ShapeState
from pgshapes.owner.housekeeping import Housekeeping
from pgshapes.tables.rows import ShapeRow
from pgshapes.tables.tables import Tables


class Database:
    """A table that has been dropped."""

    async def membership_row_oids(self, oids: Iterable[int]) -> dict[int, int]:
        """As the publication does."""
        return {}

    def clean(self, oid: int | None) -> None:
        """As the inspector does."""

    async def relation_by_oid(self, oid: int) -> Relation | None:
        """As the inspector does."""
        return None


async def test_a_shape_that_is_not_registered_yet_is_left_to_its_creation() -> None:
    """If it were removed before it is registered, it would be registered afterwards and never leave the
    router.
    """
    tables, router, database, ended = Tables(), new_router(), Database(), list[str]()
    for handle, comparable in (("1", b"a"), ("2", b"b")):
        tables.shapes.put(handle, ShapeRow(comparable, (ROOT.oid,), ShapeState.CREATING))
    registered(router, "1", ROOT)
    owner: Any = SimpleNamespace(
        router=router,
        creator=SimpleNamespace(memberships={}),
        known_relations=SimpleNamespace(invalidate=lambda oid: None),
        cleaner=SimpleNamespace(end=lambda handles, reason: ended.extend(handles)),
    )
    sources: Any = SimpleNamespace(publication=database, inspector=database)
    await Housekeeping(owner, sources, tables, []).check()
    assert ended == ["1"]
