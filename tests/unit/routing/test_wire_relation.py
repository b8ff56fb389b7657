"""Comparing a RELATION message with a relation, and reordering rows."""

from __future__ import annotations

import pytest
from tests.support.seams.routing_samples import GRADE, ID, ITEMS, TITLE, announcement, column, relation

from pgshapes.model.relation import Column
from pgshapes.routing.wire_relation import (
    fits,
    has_same_columns,
    is_published,
    is_same_layout,
    published_relation,
    rebound_relation,
    row_order,
)

STORED = column("total")._replace(is_generated=True)
VIRTUAL = STORED._replace(name="shown", is_virtual=True)


def test_generated_columns_are_published_where_the_server_can_and_virtual_ones_never() -> None:
    before_18 = relation(ID, STORED, VIRTUAL)
    from_18 = type(before_18)(*before_18._replace(publishes_generated=True))
    assert [is_published(one, before_18) for one in before_18.columns] == [True, False, False]
    assert published_relation(before_18).columns == (ID,)
    assert published_relation(from_18).columns == (ID, STORED)
    assert published_relation(from_18).column_index == {"id": 0, "total": 1}


def test_a_relation_that_is_published_whole_stays_the_same_object() -> None:
    assert published_relation(ITEMS) is ITEMS


@pytest.mark.parametrize(
    ("columns", "is_same", "has_same"),
    [
        ((ID, TITLE, GRADE), True, True),
        ((GRADE, ID, TITLE), False, True),
        ((ID, TITLE), False, False),
        ((ID, TITLE, GRADE, column("more")), False, False),
        ((ID, TITLE, column("grade", "int8")), False, False),
        ((ID, TITLE._replace(typmod=14), GRADE), False, False),
        ((ID, TITLE, column("mark")), False, False),
    ],
)
def test_layouts_are_the_same_by_name_type_and_modifier(
    columns: tuple[Column, ...], is_same: bool, has_same: bool
) -> None:
    appended_entries = announcement(relation(*columns))
    assert is_same_layout(ITEMS, appended_entries) is is_same
    assert has_same_columns(ITEMS, appended_entries) is has_same


def test_rows_fit_while_the_needed_columns_are_as_they_were() -> None:
    needed = frozenset({"id", "grade"})
    assert fits(ITEMS, needed, announcement(relation(GRADE, column("title", "int8"), ID)))
    assert not fits(ITEMS, needed, announcement(relation(ID, TITLE)))
    assert not fits(ITEMS, needed, announcement(relation(ID, TITLE, column("grade", "int8"))))


def test_a_rebound_relation_has_the_order_of_the_stream_and_what_was_known() -> None:
    rebound = rebound_relation(ITEMS, announcement(relation(GRADE, column("more", "int8"), ID)))
    assert (rebound.columns[0], rebound.columns[2]) == (GRADE, ID)
    assert (rebound.columns[1].name, rebound.columns[1].type_oid) == ("more", 20)
    assert rebound.column_index == {"grade": 0, "more": 1, "id": 2}
    assert (rebound.oid, rebound.primary_key) == (ITEMS.oid, ITEMS.primary_key)


def test_the_order_of_a_leafs_rows_is_that_of_the_root() -> None:
    assert row_order(ITEMS, ["id", "title", "grade"]) is None
    assert row_order(ITEMS, ["grade", "id", "title"]) == (1, 2, 0)
    with pytest.raises(KeyError):
        row_order(ITEMS, ["id", "title"])
