"""The catalogue returns what was stored in it."""

from __future__ import annotations

import sqlite3
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
    delete_unused_relations,
    insert_shape,
    keep_relation,
    put_fact,
    renew_relations,
)

ID = Column("id", 23, "int4", "b", -1, 0, None, True, 0, False)
ITEMS = RelationData(1, "public", "items", "r", (ID,), ("id",), 5)
MEMBERS = RelationData(2, "s", "members", "p", (ID,), (), -5)
VISIBILITY = SnapshotVisibility(10, 12, (11,), Lsn(99))
SHAPE = shape_of()


def stored(catalogue: Catalogue) -> list[StoredShape]:
    relations = [ITEMS, MEMBERS]
    catalogue.commit(
        [
            *map(keep_relation, relations),
            insert_shape("h", SHAPE.comparable, SHAPE.definition, relations),
            complete_snapshot("h", VISIBILITY, relations, {1: "7.1", 2: "8.1"}),
        ]
    )
    return catalogue.shapes()


def test_a_shape_has_all_its_relations_and_memberships(tmp_path: Path) -> None:
    expected = StoredShape(
        "h", SHAPE.comparable, SHAPE.definition, (ITEMS, MEMBERS), VISIBILITY, {1: "7.1", 2: "8.1"}
    )
    assert stored(Catalogue(tmp_path)) == [expected]
    assert Catalogue(tmp_path).shapes() == [expected]


def test_a_shape_without_a_complete_snapshot_is_not_returned(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.commit([insert_shape("h", SHAPE.comparable, SHAPE.definition, [ITEMS])])
    assert catalogue.shapes() == []


def test_files_of_other_versions_are_deleted(tmp_path: Path) -> None:
    stored(Catalogue(tmp_path))
    others = ["catalogue.v2.sqlite", "catalogue.v2.sqlite-wal", "catalogue.v30.sqlite"]
    for name in (*others, "kept"):
        (tmp_path / name).touch()
    assert len(Catalogue(tmp_path).shapes()) == 1
    assert not [name for name in others if (tmp_path / name).exists()]
    assert (tmp_path / "kept").exists()


def test_deleting_all_shapes_keeps_the_facts(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    stored(catalogue)
    catalogue.commit([put_fact("lsn", b"1"), put_fact("lsn", b"2"), delete_all_shapes()])
    assert catalogue.shapes() == []
    assert (catalogue.fact("lsn"), catalogue.fact("other")) == (b"2", None)


def test_shapes_continue_on_other_relations(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    stored(catalogue)
    wider = ITEMS._replace(columns=(ID, ID._replace(name="b")), generation=6)
    catalogue.commit([keep_relation(wider), renew_relations(["h", "unknown"], [wider, MEMBERS])])
    catalogue.commit([renew_relations(["other"], [ITEMS])])
    catalogue.commit([delete_unused_relations()])
    assert catalogue.shapes()[0].relations == (wider, MEMBERS)
    kept = sqlite3.connect(next(tmp_path.glob("catalogue.*.sqlite"))).execute(
        "SELECT generation FROM relations ORDER BY 1"
    )
    assert kept.fetchall() == [(-5,), (6,)]
