"""A shape that could not process a change is ended, logged once and refused until its table changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.support.seams.change_path_samples import (
    FIRST,
    HANDLES,
    LAST,
    SHAPES,
    clause_of,
    row,
    transaction,
)
from tests.support.seams.change_path_scene import Scene

from pgshapes.errors import RequestError
from pgshapes.model.change import Row
from pgshapes.model.shape import RelationVersion, ResolvedShape
from pgshapes.owner import definition_refusals
from pgshapes.owner.definition_refusals import DefinitionRefusals
from pgshapes.postgres.pgoutput_messages import Insert

BROKEN = HANDLES["a-like"]


def resolved(scene: Scene, *, generation: int = 1) -> ResolvedShape:
    """The definition of the broken shape as a new request brings it."""
    table = SHAPES["a-like"][0]
    version = RelationVersion(table.oid, table.schema, table.name, generation)
    shape = scene.router._shapes[BROKEN]
    return ResolvedShape(shape.definition, BROKEN.encode(), (version,), b"{}")


def break_clause(scene: Scene) -> None:
    shape = scene.router._shapes[BROKEN]
    assert shape.clause is not None

    def matches(_: Row) -> bool:
        raise TypeError("the value 42 of a row")

    shape.clause.compile(shape.relation).matches = matches
    scene.router._relations[shape.definition.table_oid]._index_all()


async def test_a_failed_shape_is_logged_once_and_its_definition_is_refused(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    try:
        assert await scene.feed(FIRST) is None
        definition = resolved(scene)
        break_clause(scene)
        with structlog.testing.capture_logs() as logged:
            assert await scene.feed(transaction(2000, Insert(SHAPES["a-like"][0].oid, row(7, 1)))) is None
            assert await scene.feed(LAST) is None
        (event,) = (event for event in logged if event["log_level"] == "error")
        assert (event["handle"], event["key"], event["count"]) == (BROKEN, '"public"."a"/"7"', 1)
        assert event["where"] == definition.definition.where
        assert isinstance(event["exc_info"], TypeError) and event["exc_info"].__traceback__ is not None
        assert [name for name, text in (await scene.outcome()).items() if text is None] == ["a-like"]
        with pytest.raises(RequestError) as refused:
            scene.owner.definition_refusals.check(definition)
        assert refused.value.status == 400 and "42" not in str(refused.value.errors)
        changed: Any = definition._replace(relations=(definition.relations[0]._replace(generation=2),))
        scene.owner.definition_refusals.check(changed)
        assert len(scene.owner.definition_refusals) == 0
    finally:
        await _forget_clauses(scene)


async def _forget_clauses(scene: Scene) -> None:
    clause_of.cache_clear()
    await scene.close()


def comparables(count: int) -> Iterable[bytes]:
    return (b"%d" % number for number in range(count))


def test_refusals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition_refusals, "LIMIT", 10)
    refusals = DefinitionRefusals()
    for comparable in comparables(100):
        refusals.note(comparable, 1, RequestError.field("where", "no"))
    assert len(refusals) == 10
