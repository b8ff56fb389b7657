"""The Python client against the server; strict: a repeated change, or one of a missing row, is an error."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.conformance.items import AS_PYTHON, Items, by_id

from pgshapes.client import ChangeMessage, Query, Rows, Shape, ShapeStream, StreamOptions, fetch_rows
from pgshapes.errors import RequestError
from pgshapes.model.change import Operation


def follow(items: Items, query: Query | None = None) -> Shape:
    return Shape(ShapeStream(items.url, query or items.table), is_strict=True)


def has_row(number: int) -> Any:
    def holds(rows: Rows) -> bool:
        return any(row["id"] == number for row in rows.values())

    return holds


async def test_rows_follow(items: Items) -> None:
    items.fill(1000)
    async with follow(items) as shape:
        await shape.up_to_date()
        assert by_id(shape) == items.selected(AS_PYTHON)
        items.sql("UPDATE items SET name = 'new', price = NULL, tags = '{}' WHERE id <= 5")
        items.sql("DELETE FROM items WHERE id BETWEEN 4 AND 8")
        items.sql("UPDATE items SET id = id + 5000 WHERE id IN (1, 20)")
        items.sql("INSERT INTO items VALUES (4, 'again', 0, '{NULL}', NULL, NULL, NULL)")
        items.sql("INSERT INTO items VALUES (-1, 'the end')")
        await shape.until(has_row(-1))
        assert by_id(shape) == items.selected(AS_PYTHON)


async def test_where_and_columns(items: Items) -> None:
    items.fill(10)
    query = Query(items.table, where="id > $1 AND ok", params=["3"], columns=["id", "ok"])
    async with follow(items, query) as shape:
        await shape.up_to_date()
        items.sql("UPDATE items SET ok = NOT ok WHERE id IN (5, 6)")
        items.sql("INSERT INTO items (id, name, ok) VALUES (11, 'end', true)")
        await shape.until(has_row(11))
        assert by_id(shape) == items.selected("id, ok", "id > 3 AND ok")


async def test_resuming(items: Items) -> None:
    items.fill(5)
    async with follow(items) as shape:
        rows = dict(await shape.up_to_date())
        position = shape.stream.position
    items.sql("DELETE FROM items WHERE id = 2")
    items.sql("INSERT INTO items VALUES (6, 'six')")
    stream = ShapeStream(items.url, items.table, start=position)
    async with Shape(stream, rows=rows, is_strict=True) as shape:
        await shape.until(has_row(6))
        assert by_id(shape) == items.selected(AS_PYTHON)


async def test_truncate_and_deletion(items: Items) -> None:
    items.fill(5)
    async with follow(items) as shape:
        await shape.up_to_date()
        handles = {shape.stream.position.handle}
        items.sql("TRUNCATE items")
        items.sql("INSERT INTO items VALUES (6, 'six')")
        await shape.until(has_row(6))
        handles.add(shape.stream.position.handle)
        async with httpx.AsyncClient() as http:
            await http.delete(items.shape_url, params={"table": items.table})
        items.sql("INSERT INTO items VALUES (7, 'seven')")
        await shape.until(has_row(7))
        handles.add(shape.stream.position.handle)
        assert by_id(shape) == items.selected(AS_PYTHON)
    assert len(handles) == 3


async def test_full_replica(items: Items) -> None:
    items.fill(1)
    async with ShapeStream(items.url, Query(items.table, replica="full", columns=["id", "name"])) as stream:
        while not stream.is_up_to_date:
            await anext(stream)
        items.sql("UPDATE items SET name = 'new' WHERE id = 1")
        message = await anext(stream)
    assert isinstance(message, ChangeMessage)
    assert (message.operation, message.value) == (Operation.UPDATE, {"id": 1, "name": "new"})
    assert message.old_value == {"name": "item 1"}


async def test_only_the_changes(items: Items) -> None:
    items.fill(3)
    async with ShapeStream(items.url, Query(items.table, log="changes_only")) as stream:
        before = [
            message async for message in _until_up_to_date(stream) if isinstance(message, ChangeMessage)
        ]
        items.sql("DELETE FROM items WHERE id = 1")
        message = await anext(stream)
    assert before == []
    assert isinstance(message, ChangeMessage)
    assert message.value == {"id": 1}


async def _until_up_to_date(stream: ShapeStream) -> Any:
    while not stream.is_up_to_date:
        yield await anext(stream)


async def test_two_hundred_streams_on_one_shape(items: Items) -> None:
    items.fill(50)
    shapes = [follow(items) for _ in range(200)]
    async with asyncio.TaskGroup() as group:
        synced = [asyncio.Event() for _ in shapes]
        for shape, event in zip(shapes, synced, strict=True):
            group.create_task(_until_the_end(shape, event))
        await asyncio.gather(*(event.wait() for event in synced))
        items.sql("UPDATE items SET name = 'new' WHERE id % 2 = 0")
        items.sql("DELETE FROM items WHERE id % 5 = 0")
        items.sql("INSERT INTO items VALUES (-1, 'end')")
    expected = items.selected(AS_PYTHON)
    assert all(by_id(shape) == expected for shape in shapes)


async def _until_the_end(shape: Shape, synced: asyncio.Event) -> None:
    async with shape:
        await shape.up_to_date()
        synced.set()
        await shape.until(has_row(-1))


async def test_one_shot_and_refusal(items: Items) -> None:
    items.fill(3)
    rows = await fetch_rows(items.url, items.table, options=StreamOptions(parses_values=False))
    assert [row["id"] for row in by_id(rows)] == ["1", "2", "3"]
    with pytest.raises(RequestError) as refused:
        await fetch_rows(items.url, "nowhere")
    assert list(refused.value.errors) == ["table"]
