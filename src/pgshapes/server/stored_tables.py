"""The tables of an owner that is away, from what it has stored; for HTTP processes that start meanwhile.

It reads the catalogue and the logs as the next owner will, and writes nothing. A shape whose 409 may have
been sent is not among the rows: its directory was renamed and its catalogue row deleted before. For shapes
that are removed while the rows are read, or later, see `tables/required_version.py`.
"""

from __future__ import annotations

from pathlib import Path

from pgshapes.gates.conditions import Condition
from pgshapes.model.lsn import Lsn
from pgshapes.model.relation import Relation
from pgshapes.model.shape_state import ShapeState
from pgshapes.owner.catalogue import StoredShape, reading_catalogue
from pgshapes.owner.durability import load_recorded
from pgshapes.shape_log.file_store.layout import Layout
from pgshapes.shape_log.file_store.recovery import readable_tail
from pgshapes.tables.deltas import Rows
from pgshapes.tables.rows import ConditionRow, ShapeRow
from pgshapes.tables.tables_reader import LAST_SEEN_LSN


def read_stored_tables(storage_dir: Path, log_root: Path) -> Rows | None:
    """The rows with which known shapes can be served; None if nothing was recorded. Blocks.

    Raises ConfigError if the catalogue cannot be read, StorageShortage if it may be read later.
    """
    with reading_catalogue(storage_dir) as catalogue:
        recorded, shapes = load_recorded(catalogue), catalogue.shapes()
    if recorded is None:
        return None
    rows, layout = Rows(), Layout(str(log_root.absolute()))
    # As the owner does at its start: a commit record may begin at the recorded LSN itself.
    known_lsn = recorded.lsn - 1
    for shape in shapes:
        _add_shape(rows, shape, layout, known_lsn)
    rows.add("progress", LAST_SEEN_LSN, known_lsn)
    rows.add("status", Condition.SHAPE_METADATA_READY.value, ConditionRow(True))
    return rows


def _add_shape(rows: Rows, shape: StoredShape, layout: Layout, known_lsn: Lsn) -> None:
    tail = readable_tail(layout.directory(shape.handle), known_lsn)
    if tail is None:
        return
    row = ShapeRow(shape.comparable, shape.definition.relation_oids, ShapeState.LIVE)
    rows.add("shapes", shape.handle, row)
    rows.add("handles", shape.comparable, shape.handle)
    rows.add("tails", shape.handle, tail)
    for data in shape.relations:
        rows.add("relations", (data.schema, data.name), Relation(*data))
