"""A transaction that leads through all of the change path, and the shapes that it needs.

A row is large, clauses are slow, the clock runs out, the disk is full, a table and a type have changed,
shapes wait for their snapshots, messages cannot be decoded or lack the old row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.support.postgres.pgoutput_encoder import encode
from tests.support.seams.change_path_samples import (
    ANNOUNCING,
    END,
    LEAF,
    ROOT,
    SHAPES,
    A,
    C,
    Sample,
    background,
    leaf_row,
    row,
    transaction,
    update,
)
from tests.support.seams.change_path_scene import Scene, Step
from tests.support.seams.routing_samples import TYPES, announcement, column, relation

from pgshapes.model.change import LARGE_CHARACTERS, Row
from pgshapes.model.relation import Part, Relation, TypeDetail
from pgshapes.postgres.pgoutput_messages import UNCHANGED, Delete, Identity, Insert, Message, Truncate, Update

TYPES.update(mood=30000)
_OK: Final = TypeDetail(30000, "e", ((1, "ok 1"), (2, "sad 1")))
_RENAMED: Final = TypeDetail(30000, "e", ((1, "ok 1"), (2, "low 2")))
_LONGER: Final = TypeDetail(30000, "e", ((1, "ok 1"), (2, "sad 1"), (3, "new 3")))


def _mood(detail: TypeDetail) -> Relation:
    mood = column("mood", "mood")._replace(type_kind="e", type_details=(detail,))
    return relation(column("id", pk_index=0), column("title", "text"), mood, oid=20015, name="d")


D: Final = _mood(_OK)
RENAMED: Final = _mood(_RENAMED)
"""The same table after a label of the type was renamed."""
_wide = _mood(_LONGER)
WIDE: Final = Relation(*_wide._replace(columns=(*_wide.columns, column("more")), generation=2, stamp="2"))
"""The same table with a further column and label."""
E: Final = relation(column("id", pk_index=0), oid=20016, name="e")
F: Final = relation(column("id", pk_index=0), oid=20017, name="f")
G: Final = relation(column("id", pk_index=0), oid=20018, name="g")
_PART: Final = Part(LEAF.oid, "1", 1, columns=tuple(one.name for one in LEAF.columns))
H: Final = relation(column("id", pk_index=0), oid=20020, name="h")
OTHER: Final = relation(column("number", pk_index=0), oid=20020, name="h")
"""A table whose columns are announced otherwise; the system catalogs say it later."""
PARTED: Final = Relation(*ROOT._replace(parts=(_PART,)))
GROWN: Final = Relation(*ROOT._replace(parts=(_PART, Part(20019, "2", 2)), generation=2, stamp="2"))
"""The partitioned table with a further partition, which was created as one."""

_LARGE: Final = '{"x": "y", "more": "' + LARGE_CHARACTERS * "-" + '"}'


def _is_large(row: Row) -> bool:
    return len(row[4] or "") > LARGE_CHARACTERS


ALL: Final[Mapping[str, Sample]] = {
    **{
        name: sample._replace(table=PARTED) if sample.table is ROOT else sample
        for name, sample in SHAPES.items()
        if name not in ("b-like", "c-grade")  # there are enough of their kind
    },
    "a-slow": Sample(A, "grade = 1 OR title = 'none'", takes_s=lambda row: 0.06 if row[1] == "slow" else 0.0),
    "a-expensive": Sample(A, "id > 0", takes_s=lambda row: 3.0 if _is_large(row) else 0.0),
    "a-late": Sample(A, is_late=True),
    "d-all": Sample(D),
    "d-some": Sample(D, columns=("id", "title")),
    "d-mood": Sample(D, "mood = 'ok'", columns=("id", "mood")),
    "d-late": Sample(D, columns=("id", "mood"), is_late=True),
    "d-renamed": Sample(RENAMED, columns=("id", "mood"), insert_lsn=10**6),
    "d-renamed-mood": Sample(RENAMED, "mood = 'ok'", columns=("id", "mood"), insert_lsn=10**6),
    "c-late": Sample(C, is_late=True),
    "e-all": Sample(E),
    "f-all": Sample(F),
    "g-all": Sample(G),
    "h-all": Sample(H),
}
ENDED: Final = {
    *("a-expensive", "c-all", "c-late", "d-all", "d-renamed", "d-renamed-mood"),
    *("e-all", "f-all", "g-all", "h-all"),
}
"""The shapes that end in any case."""
TWINS: Final = {"a-expensive": "a-all"}
"""Shapes that may have the messages of another in place of an end, as their clause is not measured when it is
evaluated again after an error.
"""


def change_tables(scene: Scene) -> None:
    """Alter two tables."""
    scene.database.changed = {D.oid: WIDE, ROOT.oid: GROWN}


def read_slowly(scene: Scene) -> None:
    """Let the system catalogs take longer than a retry of a write."""
    scene.database.slow_s = 0.004


def see_too_little(scene: Scene) -> None:
    """Let the next snapshot be too old."""
    scene.database.late = 1


def fill_disk(scene: Scene) -> None:
    """Let the next write fail."""
    scene.files.full_for = 1


def keep_alive(scene: Scene) -> None:
    """Send a keepalive."""
    scene.path.on_keepalive(2050)


def release(scene: Scene) -> None:
    """Give the shapes that wait their snapshots, and the disk room if it lacks it still."""
    scene.files.full_for = 0
    for name, sample in scene.shapes.items():
        if sample.is_late:
            scene.release(name)


def _d_row(number: int, *more: str) -> Row:
    return (str(number), "title", "ok", *more)


def _struck(*messages: Message | bytes | Step) -> list[bytes | Step]:
    begin, commit = transaction(2000)
    made = [one if isinstance(one, bytes) or callable(one) else encode(one) for one in messages]
    return [begin, *made, commit, keep_alive]


STRUCK: Final = _struck(
    announcement(A),
    Insert(A.oid, row(2, 1)),
    update(A.oid, row(2, 1), (*row(2, 2)[:4], UNCHANGED, *row(2, 2)[5:])),
    update(A.oid, row(2, 2), row(3, 1, doc=None)),
    update(A.oid, row(3, 1, doc=None), row(3, 1, title="other", tags="{}")),
    Delete(A.oid, Identity.FULL, row(1, 1)),
    Insert(A.oid, row(7, 1, title="slow")),
    Insert(A.oid, row(8, 1, doc=_LARGE)),
    Insert(A.oid, row(9, 3)),
    fill_disk,
    Insert(A.oid, row(10, 1)),
    announcement(D),
    Insert(D.oid, _d_row(1)),
    change_tables,
    see_too_little,
    announcement(LEAF),
    Insert(LEAF.oid, leaf_row(5, 1)),
    update(LEAF.oid, leaf_row(5, 1), leaf_row(5, 2)),
    announcement(OTHER),
    read_slowly,
    announcement(WIDE),
    Insert(D.oid, _d_row(2, "2")),
    Truncate((C.oid,), False, False),
    announcement(E),
    encode(Insert(E.oid, ("1",)))[:-1],
    announcement(F),
    Update(F.oid, Identity.KEY, ("1",), ("2",)),
    encode(announcement(G))[:-1],
    Insert(A.oid, row(6, 1)),
)
"""The transaction in which something raises. It changes nothing of table B."""
BEFORE: Final = ANNOUNCING
AFTERWARDS: Final = [release, *background(END - 50)]
STRUCK_TABLES: Final = frozenset({A.oid, C.oid, ROOT.oid, D.oid, E.oid, F.oid, G.oid, H.oid})
