"""Which changes of a table end which shapes: all that can alter their rows, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.seams.routing_samples import GRADE, ID, ITEMS, ROOT, TITLE, live, new_router, relation

from pgshapes.model.relation import Column, Part, Relation, TypeDetail
from pgshapes.routing.relation_change import find_change

HEAP = Part(10, "", 100)
LEAVES = (Part(11, "5", 101), Part(12, "5", 102))
MOOD = TypeDetail(90, "e", ((91, "sad"), (92, "ok")))
PAIR = TypeDetail(95, "c", ((1, "a 23 -1"), (2, "b 90 -1")))
TABLE = Relation(
    *ITEMS._replace(columns=(ID, TITLE._replace(type_details=(MOOD, PAIR)), GRADE), parts=(HEAP,))
)


def changed(table: Relation = TABLE, **fields: Any) -> Relation:
    return Relation(*table._replace(**fields))


def with_column(index: int, table: Relation = TABLE, **fields: Any) -> Relation:
    columns = list(table.columns)
    columns[index] = columns[index]._replace(**fields)
    return changed(table, columns=tuple(columns))


def with_title(**fields: Any) -> Relation:
    return with_column(1, **fields)


def rewritten(table: Relation) -> Relation:
    return changed(table, parts=(HEAP._replace(filenode=200),))


def reason(
    current: Relation,
    *needed: str,
    known: Relation = TABLE,
    is_empty: Callable[[Part], bool] = lambda _: False,
) -> str | None:
    """For a shape of these columns; without any, of all columns."""
    return find_change(
        known,
        current,
        needed or tuple(known.column_index),
        selects_all_columns=not needed,
        is_empty=is_empty,
    )


ENDING: dict[str, Relation] = {
    "renamed": changed(name="other"),
    "moved to a schema": changed(schema="other"),
    "another kind": changed(kind="v"),
    "another key": changed(primary_key=("title",)),
    "dropped": changed(columns=TABLE.columns[:1]),
    "another column of the name": with_title(number=9),
    "another type": with_title(type_oid=20),
    "another modifier": with_title(typmod=14),
    "another expression": with_title(expression="upper(x)"),
    "another collation": with_title(collation="de_DE.UTF-8"),
    "values rewritten": rewritten(with_title(version=8)),
    "label renamed": with_title(type_details=(MOOD._replace(parts=((91, "mad"), (92, "ok"))), PAIR)),
    "label dropped": with_title(type_details=(MOOD._replace(parts=((91, "sad"),)), PAIR)),
    "attribute renamed": with_title(type_details=(MOOD, PAIR._replace(parts=((1, "z 23 -1"),)))),
    "attribute added": with_title(type_details=(MOOD, PAIR._replace(parts=(*PAIR.parts, (3, "c 23 -1"))))),
    "another type below": with_title(type_details=(MOOD,)),
}

HARMLESS: dict[str, Relation] = {
    "nothing": TABLE,
    "VACUUM FULL": rewritten(TABLE),
    "SET NOT NULL": with_title(version=8, not_null=True),
    "another stamp": changed(stamp="1.2.3", generation=5),
    "label added": with_title(type_details=(MOOD._replace(parts=(*MOOD.parts, (93, "new"))), PAIR)),
    "type renamed": with_title(type_name="feeling"),
    "REPLICA IDENTITY": changed(parts=(HEAP._replace(replica_identity="d"),)),
}

OF_ANOTHER_COLUMN: dict[str, Relation] = {
    name: table for name, table in ENDING.items() if table.columns != TABLE.columns and name != "dropped"
}


@pytest.mark.parametrize("current", ENDING.values(), ids=ENDING)
def test_a_change_that_can_alter_rows_ends_the_shape(current: Relation) -> None:
    assert reason(current) is not None
    assert reason(current, "id", "title") is not None


@pytest.mark.parametrize("current", HARMLESS.values(), ids=HARMLESS)
def test_a_change_that_cannot_alter_rows_ends_no_shape(current: Relation) -> None:
    assert reason(current) is None
    assert reason(current, "id", "title") is None


@pytest.mark.parametrize("current", OF_ANOTHER_COLUMN.values(), ids=OF_ANOTHER_COLUMN)
def test_a_change_of_an_unused_column_ends_no_shape(current: Relation) -> None:
    assert reason(current, "id", "grade") is None


def test_an_added_column_ends_the_shapes_of_all_columns() -> None:
    wider = changed(columns=(*TABLE.columns, GRADE._replace(name="more", number=4)))
    assert reason(wider) is not None
    assert reason(wider, *TABLE.column_index) is None


def test_swapped_names_end_the_shapes_of_these_columns() -> None:
    one, two = Column("a", 23, "int4", "b", -1, 0, None, False, None, False, number=2), None
    two = one._replace(name="b", number=3)
    known = relation(ID, one, two)
    current = relation(ID, one._replace(number=3), two._replace(number=2))
    assert reason(current, "id", "a", known=known) is not None
    assert reason(current, "id", known=known) is None


def partitioned(*parts: Part) -> Relation:
    return changed(ROOT, parts=parts)


@pytest.mark.parametrize(
    ("parts", "ends"),
    [
        (LEAVES, False),
        (LEAVES[:1], True),
        ((LEAVES[0], LEAVES[1]._replace(attachment="6")), True),
        ((LEAVES[0], LEAVES[1]._replace(filenode=300)), False),
        ((*LEAVES, Part(13, "6", 103, is_created_attached=True)), False),
        ((*LEAVES, Part(13, "6", 103, is_created_attached=False)), True),
        ((*LEAVES, Part(14, "6", 103, is_created_attached=False)), False),
        ((LEAVES[0], LEAVES[1]._replace(filenode=300, expressions=(("id", 99),))), True),
        ((LEAVES[0], LEAVES[1]._replace(filenode=300, expressions=(("unused", 99),))), False),
    ],
    ids=[
        "same",
        "gone",
        "attached again",
        "rewritten",
        "created",
        "attached",
        "attached while empty",
        "another expression",
        "another expression of another column",
    ],
)
def test_rows_that_enter_or_leave_with_a_partition_end_the_shape(parts: tuple[Part, ...], ends: bool) -> None:
    found = reason(
        partitioned(*parts), "id", known=partitioned(*LEAVES), is_empty=lambda part: part.oid == 14
    )
    assert (found is not None) is ends


def test_values_that_are_rewritten_in_a_leaf_end_the_shape() -> None:
    known = partitioned(*LEAVES)
    current = with_column(0, partitioned(LEAVES[0]._replace(filenode=300), LEAVES[1]), version=9)
    assert reason(current, "id", known=known) is not None


def test_the_router_compares_each_shape_with_the_table_that_it_continued_on() -> None:
    router = new_router()
    live(router, "all", TABLE)
    live(router, "id", TABLE, columns=("id",))
    wider = changed(columns=(*TABLE.columns, GRADE._replace(name="more", number=4)), generation=2)
    found = router.find_changed(wider, {"all", "id", "unknown"}, lambda _: False)
    assert set(found) == {"all"}
    assert router.renew(wider, {"id"}) == ["id"]
    assert router.renew(wider, {"id"}) == []
    assert router.find_changed(wider, {"id"}, lambda _: False) == {}
    assert set(router.find_changed(TABLE, {"all", "id"}, lambda _: False)) == set()
    assert router.find_changed(changed(oid=99), {"all"}, lambda _: False) == {}


def test_only_parts_that_some_shape_does_not_know_may_have_had_rows() -> None:
    router = new_router()
    attached = Part(13, "6", 103, is_created_attached=False)
    created = Part(14, "6", 104, is_created_attached=True)
    live(router, "older", partitioned(*LEAVES))
    live(router, "newer", changed(partitioned(*LEAVES, attached), generation=2))
    current = changed(partitioned(*LEAVES, attached, created), generation=3)
    assert router.attached_parts(current) == [attached]
    router.renew(current, {"older"})
    assert router.attached_parts(current) == []
    assert router.attached_parts(changed(oid=99)) == []


def test_a_table_that_the_publication_does_not_name_may_have_left_it() -> None:
    """By SET UNLOGGED or SET SCHEMA, and returned, without a sign in the publication."""
    router = new_router()
    live(router, "all", TABLE)
    for fields in ({"parts": rewritten(TABLE).parts}, {"class_version": 9}):
        current = changed(**fields)
        assert router.find_changed(current, {"all"}, lambda _: False) == {}
        assert set(router.find_changed(current, {"all"}, lambda _: False, is_listed=False)) == {"all"}
    assert router.find_changed(TABLE, {"all"}, lambda _: False, is_listed=False) == {}
