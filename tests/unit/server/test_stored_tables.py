"""What an owner has stored is read as the next owner will read it, and nothing is written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.support.storage.shape_log_samples import append_whole, make_handle, make_transactions
from tests.unit.owner.test_catalogue import ITEMS, VISIBILITY
from tests.unit.shape_cache.definitions_of import shape_of

from pgshapes.errors import ConfigError
from pgshapes.model.lsn import Lsn
from pgshapes.model.relation import Relation
from pgshapes.model.shape_state import ShapeState
from pgshapes.owner.catalogue import (
    Catalogue,
    complete_snapshot,
    delete_shape,
    insert_shape,
    keep_relation,
    put_fact,
)
from pgshapes.owner.durability import Recorded
from pgshapes.server.stored_tables import read_stored_tables
from pgshapes.shape_log.file_store.log import FileShapeLog
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.tables.deltas import Rows
from pgshapes.tables.rows import ConditionRow, ShapeRow

HANDLES = [make_handle(number) for number in range(3)]
SHAPES = {handle: shape_of(f"t{number}") for number, handle in enumerate(HANDLES)}


class Stored:
    """The storage of an owner that has three shapes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.catalogue = Catalogue(directory)
        self.store = FileShapeStore(self.logs, chunk_bytes=300)
        for handle, shape in SHAPES.items():
            log = self.store.create(handle)
            writer = log.start_snapshot()
            writer.add_rows([b'{"a":1}'] * 90)
            writer.finish(b"{}")
            self.catalogue.commit([insert_shape(handle, shape.comparable, shape.definition, [ITEMS])])
            self.complete(handle)
        append_whole(self.log(HANDLES[0]), make_transactions(7, 20))
        self.record(Lsn(1))

    def log(self, handle: str) -> FileShapeLog:
        log = self.store.get(handle)
        assert log is not None
        return log

    def complete(self, handle: str) -> None:
        memberships = {ITEMS.oid: "1"}
        self.catalogue.commit(
            [keep_relation(ITEMS), complete_snapshot(handle, VISIBILITY, [ITEMS], memberships)]
        )

    def record(self, lsn: Lsn) -> None:
        self.catalogue.commit([put_fact("recorded", msgspec.json.encode(Recorded(lsn)))])

    def read(self) -> Rows:
        before = self.files()
        rows = read_stored_tables(self.directory, self.logs)
        assert self.files() == before
        assert rows is not None
        return rows

    def files(self) -> dict[Path, bytes]:
        beside = ("-shm", "-wal", "owner.lock")
        found = (path for path in self.directory.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in found if not path.name.endswith(beside)}


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


@pytest.mark.parametrize("is_open", [True, False])
def test_rows_are_those_that_the_next_owner_finds(stored: Stored, is_open: bool) -> None:
    if not is_open:
        stored.catalogue.close()
    rows = stored.read()
    recovered = FileShapeStore(stored.logs, chunk_bytes=300).recover(HANDLES, 0)
    assert dict(rows.tails) == {handle: log.tail for handle, log in recovered.items()}
    assert {tail.latest.tx > 0 for tail in dict(rows.tails).values()} == {True, False}
    assert dict(rows.shapes) == {
        handle: ShapeRow(shape.comparable, shape.definition.relation_oids, ShapeState.LIVE)
        for handle, shape in SHAPES.items()
    }
    assert dict(rows.handles) == {shape.comparable: handle for handle, shape in SHAPES.items()}
    assert dict(rows.relations) == {("public", "items"): Relation(*ITEMS)}
    assert dict(rows.progress) == {"last_seen_lsn": 0}
    assert dict(rows.status) == {"shape_metadata_ready": ConditionRow(True)}


def test_a_shape_whose_removal_has_begun_to_be_durable_is_not_read(stored: Stored) -> None:
    """Its 409 may be sent once its directory was renamed and its row was deleted."""
    asyncio.run(stored.store.remove([HANDLES[0]]))
    assert set(dict(stored.read().shapes)) == set(HANDLES[1:])
    stored.catalogue.commit([delete_shape(HANDLES[1])])
    rows = stored.read()
    for table in (rows.shapes, rows.tails):
        assert set(dict(table)) == {HANDLES[2]}
    assert list(dict(rows.handles).values()) == [HANDLES[2]]


def test_a_transaction_that_is_not_complete_is_not_readable(stored: Stored) -> None:
    expected = dict(stored.read().tails)
    log = stored.log(HANDLES[1])
    for transaction in make_transactions(8, 1):
        log.append(transaction, ends_transaction=False)
    assert dict(stored.read().tails) == expected


def test_a_snapshot_that_is_not_complete_is_not_read(stored: Stored) -> None:
    shape = shape_of("new")
    stored.catalogue.commit([insert_shape(make_handle(9), shape.comparable, shape.definition, [ITEMS])])
    assert set(dict(stored.read().shapes)) == set(HANDLES)


def test_nothing_is_known_before_anything_was_recorded(tmp_path: Path) -> None:
    Catalogue(tmp_path).close()
    assert read_stored_tables(tmp_path, tmp_path / "logs") is None


def test_a_catalogue_that_cannot_be_read_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_stored_tables(tmp_path, tmp_path / "logs")
    assert list(tmp_path.iterdir()) == []
