"""The catalogue returns what was stored in it."""

from __future__ import annotations

from pathlib import Path

from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.model.lsn import Lsn
from pgshapes.model.relation import Column, RelationData
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalogue import (
    Catalogue,
    StoredShape,
    complete_snapshot,
    delete_all_shapes,
    insert_shape,
    put_fact,
)

ID = Column("id", 23, "int4", "b", -1, 0, None, True, 0, False)
ITEMS = RelationData(1, "public", "items", "r", (ID,), ("id",), 5)
MEMBERS = RelationData(2, "s", "members", "p", (ID,), (), -5)
VISIBILITY = SnapshotVisibility(10, 12, (11,), Lsn(99))
SHAPE = shape_of()


def stored(catalogue: Catalogue) -> list[StoredShape]:
    insertion = insert_shape("h", SHAPE.comparable, SHAPE.definition, [ITEMS, MEMBERS])
    catalogue.commit([insertion, complete_snapshot("h", VISIBILITY, {1: 70, 2: 80})])
    return catalogue.shapes()


def test_a_shape_has_all_its_relations_and_memberships(tmp_path: Path) -> None:
    expected = StoredShape(
        "h", SHAPE.comparable, SHAPE.definition, (ITEMS, MEMBERS), VISIBILITY, {1: 70, 2: 80}
    )
    assert stored(Catalogue(tmp_path)) == [expected]
    assert Catalogue(tmp_path).shapes() == [expected]


def test_a_shape_without_a_complete_snapshot_is_not_returned(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.commit([insert_shape("h", SHAPE.comparable, SHAPE.definition, [ITEMS])])
    assert catalogue.shapes() == []


def test_deleting_all_shapes_keeps_the_facts(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    stored(catalogue)
    catalogue.commit([put_fact("lsn", b"1"), put_fact("lsn", b"2"), delete_all_shapes()])
    assert catalogue.shapes() == []
    assert (catalogue.fact("lsn"), catalogue.fact("other")) == (b"2", None)
