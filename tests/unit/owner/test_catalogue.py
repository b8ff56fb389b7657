"""The catalogue returns what was stored in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.errors import (
    CatalogueError,
    ConfigError,
    DiskFull,
    StorageError,
    StorageFailing,
    StorageShortage,
)
from pgshapes.model.lsn import Lsn
from pgshapes.model.relation import Column, RelationData
from pgshapes.model.visibility import SnapshotVisibility
from pgshapes.owner.catalogue import (
    Catalogue,
    Statement,
    StoredShape,
    complete_snapshot,
    delete_all_shapes,
    delete_unused_relations,
    insert_shape,
    keep_relation,
    put_fact,
    renew_relations,
)
from pgshapes.owner.catalogue_errors import write_error

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


def test_a_full_disk_passes(tmp_path: Path) -> None:
    """It ends no later write, also when it is noticed at the end of a transaction."""
    catalogue = Catalogue(tmp_path)
    catalogue._db.execute("PRAGMA max_page_count = 1")
    for _ in range(2):
        with pytest.raises(DiskFull):
            catalogue.commit([put_fact("small", b"1"), put_fact("large", bytes(100_000))])
    catalogue._db.execute("PRAGMA max_page_count = 1000000")
    catalogue.commit([put_fact("large", bytes(100_000))])
    assert catalogue.fact("small") is None


def test_a_write_that_is_refused_does_not_pass(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    with pytest.raises(CatalogueError, match="remove the storage directory"):
        catalogue.commit([put_fact("kept", b"1"), Statement("INSERT INTO facts VALUES (NULL, NULL)", ())])
    catalogue.commit([put_fact("other", b"2")])
    assert (catalogue.fact("kept"), catalogue.fact("other")) == (None, b"2")


def test_a_damaged_file_does_not_pass(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.close()
    (file,) = tmp_path.glob("*.sqlite")
    damaged = bytearray(file.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    file.write_bytes(damaged)
    again = Catalogue(tmp_path)
    with pytest.raises(CatalogueError, match="malformed"):
        again.commit([put_fact("name", b"1")])
    with pytest.raises(ConfigError, match="remove the storage directory"):
        again.fact("name")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, StorageShortage),
        (sqlite3.SQLITE_NOMEM, StorageShortage),
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_IOERR, StorageFailing),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageFailing),
        (sqlite3.SQLITE_CANTOPEN, StorageShortage),
        (sqlite3.SQLITE_READONLY, StorageShortage),
        (sqlite3.SQLITE_CORRUPT, CatalogueError),
        (sqlite3.SQLITE_NOTADB, CatalogueError),
        (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, CatalogueError),
        (None, CatalogueError),
    ],
)
def test_an_error_is_judged_by_its_code(code: int | None, kind: type[StorageError]) -> None:
    error = sqlite3.DatabaseError("said")
    if code is not None:
        error.sqlite_errorcode = code
    assert type(write_error(error)) is kind


def test_a_shortage_is_no_reason_to_remove_the_storage_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object, **__: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        raise error

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(StorageShortage) as caught:
        Catalogue(tmp_path)
    assert "remove" not in caught.value.message
