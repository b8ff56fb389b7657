"""A table leaves the publication, however often that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.support.seams.routing_samples import ITEMS

from pgshapes.errors import PgShapesError, SchemaChanged, SourceError
from pgshapes.model.relation import Relation
from pgshapes.owner import unpublishing
from pgshapes.owner.unpublishing import Unpublisher


class Database:
    """A publication from which a table is removed after some attempts."""

    def __init__(self, *outcomes: bool | PgShapesError) -> None:
        self.outcomes = list(outcomes)
        self.attempts = 0
        self.shapes: set[int] = set()
        self.breaks_writes = True
        self.forced: list[bool] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.unpublisher = Unpublisher(
            self,
            self,
            has_shapes=self.shapes.__contains__,
            breaks_writes=lambda _: self.breaks_writes,
            spawn=lambda work: self.tasks.append(asyncio.create_task(work)),
        )

    async def relation_by_oid(self, oid: int) -> Relation | None:
        return ITEMS if self.outcomes else None

    async def drop_table(self, relation: Relation, *, is_wanted: Callable[[], bool], is_forced: bool) -> bool:
        self.attempts += 1
        self.forced.append(is_forced)
        assert not is_wanted()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, PgShapesError):
            raise outcome
        return outcome

    async def settle(self) -> None:
        await asyncio.gather(*self.tasks)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpublishing, "_FIRST_PAUSE_S", 0.0)


async def test_it_is_tried_again_after_locks_and_errors() -> None:
    database = Database(False, SourceError("the connection was lost"), SchemaChanged("changed"), False, True)
    database.unpublisher.remove_unused([ITEMS.oid])
    await database.settle()
    assert database.attempts == 5


async def test_a_table_that_is_gone_needs_nothing() -> None:
    database = Database()
    database.unpublisher.remove_unused([ITEMS.oid])
    await database.settle()
    assert database.attempts == 0


async def test_one_removal_at_a_time() -> None:
    database = Database(False, True, True)
    for _ in range(3):
        database.unpublisher.remove_unused([ITEMS.oid])
    await database.settle()
    assert (database.attempts, len(database.tasks)) == (2, 1)
    database.unpublisher.remove_unused([ITEMS.oid])
    await database.settle()
    assert (database.attempts, len(database.tasks)) == (3, 2)


async def test_a_table_with_shapes_stays() -> None:
    database = Database(False, True)
    database.shapes.add(ITEMS.oid)
    database.unpublisher.remove_unused([ITEMS.oid])
    assert database.tasks == []
    database.shapes.clear()
    database.unpublisher.remove_unused([ITEMS.oid])
    database.shapes.add(ITEMS.oid)
    await database.settle()
    assert database.attempts == 0


async def test_a_table_whose_owners_statements_fail_leaves_with_its_shapes() -> None:
    """Also beside a removal of the same table for want of shapes, and after errors."""
    database = Database(SourceError("the connection was lost"), False, True)
    database.shapes.add(ITEMS.oid)
    for _ in range(3):
        database.unpublisher.remove_breaking(ITEMS)
    await database.settle()
    assert (database.attempts, len(database.tasks), set(database.forced)) == (3, 1, {True})


async def test_a_table_that_does_not_break_statements_any_more_stays() -> None:
    database = Database(False, True)
    database.unpublisher.remove_breaking(ITEMS)
    database.breaks_writes = False
    await database.settle()
    assert database.attempts == 0
