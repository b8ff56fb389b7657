"""The rendering of changes, byte by byte."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.seams.routing_samples import ITEMS, column, message_of, parsed, relation

from pgshapes.model.offset import Offset
from pgshapes.model.relation import Relation
from pgshapes.routing.projection import Origin, Projection, RenderedMessage

ORIGIN = Origin(26877408, 741)
OLD, NEW = ("1", "a", "5"), ("1", "b", "5")
KEYLESS = relation(column("b"), column("a", "text"), name="notes")


def projection(
    table: Relation = ITEMS, *columns: str, replica: str = "default", key: tuple[str, ...] | None = None
) -> Projection:
    """A projection; without columns, of all of them."""
    selected = columns or [one.name for one in table.columns]
    return Projection(table, selected, table.key_columns if key is None else key, replica)


def only(messages: tuple[RenderedMessage, ...]) -> dict[str, Any]:
    (message,) = messages
    return message_of(message)


def test_an_insert_is_written_exactly_so() -> None:
    (message,) = projection().insert(ORIGIN, 4, ("1", 'say "hi"', None))
    entry = message.entry()
    assert entry.offset == message.offset == Offset(26877408, 4)
    assert entry.json == (
        rb'{"key":"\"public\".\"items\"/\"1\"","value":{"grade":null,"id":"1","title":"say \"hi\""},'
        rb'"headers":{"operation":"insert","relation":["public","items"],"lsn":"26877408","op_position":4,'
        rb'"txids":[741]}}'
    )


def test_the_last_message_says_so_and_differs_in_nothing_else() -> None:
    (message,) = projection().insert(ORIGIN, 4, NEW)
    last = parsed(message.last_entry())
    assert last["headers"].pop("last") is True
    assert last == message_of(message)
    assert message.last_entry().offset == message.entry().offset


def test_an_entry_is_created_once() -> None:
    (message,) = projection().insert(ORIGIN, 4, NEW)
    assert message.entry() is message.entry()
    assert message.last_entry() is message.last_entry()


def test_an_update_has_the_key_and_what_changed() -> None:
    message = only(projection().update(ORIGIN, 2, OLD, NEW))
    assert message["key"] == '"public"."items"/"1"'
    assert message["value"] == {"id": "1", "title": "b"}
    assert "old_value" not in message
    assert message["headers"] == {
        "operation": "update",
        "relation": ["public", "items"],
        "lsn": "26877408",
        "op_position": 2,
        "txids": [741],
    }


def test_a_full_update_has_all_columns_and_the_former_values_of_those_that_changed() -> None:
    message = only(projection(replica="full").update(ORIGIN, 2, OLD, ("1", None, "5")))
    assert message["value"] == {"id": "1", "title": None, "grade": "5"}
    assert message["old_value"] == {"title": "a"}
    assert list(message) == ["key", "value", "old_value", "headers"]


@pytest.mark.parametrize(
    ("replica", "value"), [("default", {"id": "1"}), ("full", {"id": "1", "title": "a", "grade": "5"})]
)
def test_a_delete_has_the_key_or_in_full_the_row(replica: str, value: dict[str, str]) -> None:
    message = only(projection(replica=replica).delete(ORIGIN, 2, OLD))
    assert message["key"] == '"public"."items"/"1"'
    assert message["value"] == value
    assert message["headers"]["operation"] == "delete"


@pytest.mark.parametrize("replica", ["default", "full"])
def test_an_update_of_no_selected_column_is_nothing(replica: str) -> None:
    assert projection(ITEMS, "id", "grade", replica=replica).update(ORIGIN, 2, OLD, NEW) == ()
    assert projection(replica=replica).update(ORIGIN, 2, OLD, OLD) == ()


@pytest.mark.parametrize("replica", ["default", "full"])
def test_only_selected_columns_are_written(replica: str) -> None:
    narrow = projection(ITEMS, "id", "grade", replica=replica)
    update = only(narrow.update(ORIGIN, 2, OLD, ("1", "b", "6")))
    assert update["value"] == {"id": "1", "grade": "6"}
    assert update.get("old_value") == ({"grade": "5"} if replica == "full" else None)
    assert only(narrow.insert(ORIGIN, 2, NEW))["value"] == {"id": "1", "grade": "5"}


@pytest.mark.parametrize(
    ("replica", "gone"), [("default", {"id": "1"}), ("full", {"id": "1", "title": "a", "grade": "5"})]
)
def test_a_change_of_the_key_is_a_delete_and_an_insert(replica: str, gone: dict[str, str]) -> None:
    before, after = projection(replica=replica).update(ORIGIN, 6, OLD, ("2", "a", "5"))
    delete, insert = message_of(before), message_of(after)
    assert (before.offset, after.offset) == (Offset(26877408, 6), Offset(26877408, 7))
    assert (delete["key"], insert["key"]) == ('"public"."items"/"1"', '"public"."items"/"2"')
    assert (delete["value"], insert["value"]) == (gone, {"id": "2", "title": "a", "grade": "5"})
    origin = {"relation": ["public", "items"], "lsn": "26877408", "txids": [741]}
    assert delete["headers"] == {
        **origin,
        "operation": "delete",
        "op_position": 6,
        "key_change_to": insert["key"],
    }
    assert insert["headers"] == {
        **origin,
        "operation": "insert",
        "op_position": 7,
        "key_change_from": delete["key"],
    }


def test_without_a_primary_key_the_whole_row_is_the_key_in_attribute_order() -> None:
    insert = only(projection(KEYLESS).insert(ORIGIN, 0, ("1/2", None)))
    assert insert["key"] == '"public"."notes"/"1//2"/_'
    assert only(projection(KEYLESS).delete(ORIGIN, 0, ("1", "x")))["value"] == {"a": "x", "b": "1"}


def test_without_a_primary_key_every_change_is_one_of_the_key() -> None:
    before, after = projection(KEYLESS).update(ORIGIN, 0, ("1", "x"), ("1", "y"))
    assert message_of(before)["headers"]["key_change_to"] == message_of(after)["key"]
    assert projection(KEYLESS).update(ORIGIN, 0, ("1", "x"), ("1", "x")) == ()


def test_a_key_of_several_columns_stands_in_key_order() -> None:
    table = relation(column("a", pk_index=1), column("b", pk_index=0), column("c"))
    message = only(projection(table).update(ORIGIN, 0, ("1", "2", "3"), ("1", "2", "4")))
    assert message["key"] == '"public"."items"/"2"/"1"'
    assert message["value"] == {"a": "1", "b": "2", "c": "4"}


def test_the_size_of_a_message() -> None:
    (message,) = projection().insert(ORIGIN, 0, NEW)
    assert message.size_bytes == len(message.entry().json) - len("}}")
