"""The visible rows of a shape are always up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from tests.unit.client.shape_server import ADDRESS, Planned, ShapeServer

from pgshapes.client import ChangeMessage, Position, Shape, ShapeStream, apply_change
from pgshapes.client.messages import Value
from pgshapes.errors import NotNow, RequestError, WireError
from pgshapes.model.change import Operation

Open = Callable[..., ShapeStream]


def names(rows: object) -> list[str]:
    assert hasattr(rows, "values")
    return sorted(row["name"] for row in rows.values())


async def test_rows_follow(open_stream: Open) -> None:
    server = ShapeServer(rows=2)
    async with Shape(open_stream(server), is_strict=True) as shape:
        rows = await shape.up_to_date()
        assert names(rows) == ["name 0", "name 1"]
        server.change("insert", 5, name="five")
        server.change("update", 0, name="zero")
        server.change("delete", 1)
        await shape.until(lambda rows: len(rows) == 2 and "five" in names(rows))
        assert names(shape.rows) == ["five", "zero"]
        assert sorted(row["id"] for row in shape) == [0, 5]
        assert rows == shape.rows, "what was given before changes along"


async def test_a_refetch_never_shows_half(open_stream: Open) -> None:
    server = ShapeServer(rows=3)
    seen: list[int] = []
    async with Shape(open_stream(server)) as shape:
        shape.subscribe(lambda rows: seen.append(len(rows)))
        await shape.up_to_date()
        server.rotate(rows=5)
        await shape.until(lambda rows: len(rows) == 5)
    assert set(seen) == {3, 5}


async def test_changes_that_are_not_up_to_date_do_not_show(open_stream: Open) -> None:
    server = ShapeServer(chunk_entries=2)
    async with Shape(open_stream(server)) as shape:
        await shape.up_to_date()
        sizes: list[int] = []
        shape.subscribe(lambda rows: sizes.append(len(rows)))
        for number in range(5):
            server.change("insert", number)
        await shape.until(lambda rows: len(rows) == 5)
    assert sizes == [5]


async def test_resuming_with_rows(open_stream: Open) -> None:
    server = ShapeServer(rows=2)
    async with Shape(open_stream(server)) as shape:
        saved, position = dict(await shape.up_to_date()), shape.stream.position
    server.change("insert", 9, name="nine")
    async with Shape(open_stream(server, start=position), rows=saved, is_strict=True) as shape:
        assert names(await shape.up_to_date()) == ["name 0", "name 1", "nine"]
    assert position == Position("handle-1", "0_inf")


async def test_changes_and_unsubscribe(open_stream: Open) -> None:
    server = ShapeServer(rows=1)
    heard: list[int] = []
    async with Shape(open_stream(server)) as shape:
        unsubscribe = shape.subscribe(lambda rows: heard.append(len(rows)))
        sizes: list[int] = []
        async for rows in shape.changes():
            sizes.append(len(rows))
            if len(sizes) == 1:
                unsubscribe()
                server.change("insert", 4)
            else:
                break
    assert sizes == [1, 2]
    assert heard == [1]


async def test_an_error_reaches_every_wait_and_the_end(open_stream: Open) -> None:
    server = ShapeServer(rows=1)
    with pytest.raises(RequestError):
        async with Shape(open_stream(server)) as shape:
            await shape.up_to_date()
            server.planned.append(Planned(403))
            server.change("insert", 2)
            with pytest.raises(RequestError):
                await shape.until(lambda rows: len(rows) == 2)
            with pytest.raises(RequestError):
                await shape.up_to_date()


async def test_a_stream_that_ends(open_stream: Open) -> None:
    async with Shape(open_stream(ShapeServer(rows=1), is_live=False)) as shape:
        assert len(await shape.up_to_date()) == 1
        assert [len(rows) async for rows in shape.changes()] == [1]
        with pytest.raises(NotNow):
            await shape.until(lambda rows: False)


async def test_waiting_outside_of_async_with(open_stream: Open) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Shape(open_stream(ShapeServer())).up_to_date()


async def test_two_hundred_shapes_share_the_connections(
    connect: Callable[[ShapeServer], httpx.AsyncClient],
) -> None:
    server = ShapeServer(rows=10)
    http = connect(server)
    shapes = [Shape(ShapeStream(ADDRESS, "items", http=http), is_strict=True) for _ in range(200)]
    async with asyncio.TaskGroup() as group:
        for shape in shapes:
            group.create_task(follow_to_eleven(shape))
        await asyncio.sleep(0.05)
        server.change("insert", 10, name="name 10")
    assert not http.is_closed
    assert len({frozenset(shape.rows) for shape in shapes}) == 1


async def follow_to_eleven(shape: Shape) -> None:
    async with shape:
        await shape.until(lambda rows: len(rows) == 11)


def change(operation: Operation, **value: str) -> ChangeMessage:
    return ChangeMessage(operation, "k", dict(value), None, {})


def test_updates_merge() -> None:
    rows: dict[str, Value] = {"k": {"id": "1", "name": "a"}}
    apply_change(rows, change(Operation.UPDATE, name="b"), is_strict=True)
    assert rows == {"k": {"id": "1", "name": "b"}}


@pytest.mark.parametrize(
    ("operation", "rows"), [(Operation.INSERT, {"k": {}}), (Operation.UPDATE, {}), (Operation.DELETE, {})]
)
def test_strictness(operation: Operation, rows: dict[str, Value]) -> None:
    with pytest.raises(WireError):
        apply_change(dict(rows), change(operation, id="1"), is_strict=True)
    apply_change(dict(rows), change(operation, id="1"))
