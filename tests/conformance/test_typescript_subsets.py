"""The published TypeScript client in `changes_only` mode: the subsets that it loads, joined with changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.conformance.items import AS_TYPESCRIPT, Items, by_id
from tests.conformance.node_program import Line, NodeProgram

END = {"name": "end"}
METHODS = pytest.mark.parametrize("method", ["GET", "POST"])


@asynccontextmanager
async def loading(items: Items, shape: Line | str, method: str, *subsets: Line) -> AsyncIterator[NodeProgram]:
    program = NodeProgram("subsets.mjs", items.url, shape, method, json.dumps(subsets), END)
    async with program:
        assert await program.line() == {"started": True}
        yield program


@METHODS
async def test_subsets_and_later_changes(items: Items, method: str) -> None:
    items.fill(100)
    first = {"where": "id <= $1 AND name LIKE $2", "params": {"1": "20", "2": "item %"}}
    second = {"orderBy": "id DESC NULLS LAST", "limit": 10, "offset": 5}
    async with loading(items, items.table, method, first, second) as program:
        assert [await program.line(), await program.line()] == [{"loaded": 20}, {"loaded": 10}]
        items.sql("UPDATE items SET name = 'new', tags = '{}', price = NULL WHERE id % 2 = 0")
        items.sql("DELETE FROM items WHERE id % 5 = 0")
        items.sql("UPDATE items SET id = 1000 WHERE id = 3")
        items.sql("INSERT INTO items VALUES (0, 'end')")
        result = await program.line()
    wanted = "id <= 20 OR id BETWEEN 86 AND 95 OR id = 1000"
    assert by_id(result["rows"]) == items.selected(AS_TYPESCRIPT, wanted)
    assert result["doubled"] == []


@METHODS
async def test_subsets_of_a_shape_with_a_clause_and_columns(items: Items, method: str) -> None:
    items.fill(20)
    shape = {"table": items.table, "where": "id < 5 OR id > 15", "columns": ["id", "name"]}
    async with loading(items, shape, method, {"where": "id <= 10 OR id = 17", "orderBy": "id"}) as program:
        assert await program.line() == {"loaded": 5}
        items.sql("UPDATE items SET name = 'new' WHERE id > 10")
        items.sql("INSERT INTO items VALUES (0, 'end')")
        result = await program.line()
    assert by_id(result["rows"]) == items.selected("id, name", "id < 5 OR id = 17")


async def test_subsets_while_others_write(items: Items) -> None:
    """All parts of the table are loaded during the test; with the changes they equal the table."""
    items.fill(200)
    subsets = [{"where": f"id % 10 = {part}"} for part in range(10)] * 2
    async with loading(items, items.table, "GET", *subsets) as program:
        loaded = asyncio.create_task(lines(program, len(subsets)))
        while not loaded.done():
            await asyncio.to_thread(write_something, items)
        assert all("loaded" in line for line in await loaded)
        items.sql("INSERT INTO items VALUES (0, 'end')")
        result = await program.line()
    assert by_id(result["rows"]) == items.selected(AS_TYPESCRIPT)
    assert result["doubled"] == []


async def lines(program: NodeProgram, count: int) -> list[Line]:
    return [await program.line() for _ in range(count)]


def write_something(items: Items) -> None:
    items.sql("UPDATE items SET price = random() WHERE id = 1 + floor(random() * 200)::int")
    items.sql(
        "UPDATE items SET id = id + 1000 WHERE id < 1000 AND id = floor(random() * 200)::int"
        " AND id + 1000 NOT IN (SELECT id FROM items)"
    )
    items.sql("DELETE FROM items WHERE id = floor(random() * 200)::int")
    items.sql(
        "INSERT INTO items SELECT id, 'again', 1 FROM (SELECT 1 + floor(random() * 200)::int AS id) new"
        " ON CONFLICT DO NOTHING"
    )


@METHODS
async def test_a_subset_that_is_refused(items: Items, method: str) -> None:
    async with loading(items, items.table, method, {"where": "nothing = 1"}) as program:
        line = await program.line()
    assert (line["error"], line["status"]) == ("FetchError", 400)
    assert "unknown reference nothing" in line["message"]
