"""The published TypeScript client against the server: its messages and the rows that it keeps."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
from tests.conformance.items import AS_TYPESCRIPT, Items, by_id
from tests.conformance.node_program import Line, NodeProgram


def is_up_to_date(line: Line) -> bool:
    return is_control(line, "up-to-date")


def is_must_refetch(line: Line) -> bool:
    return is_control(line, "must-refetch")


def is_control(line: Line, word: str) -> bool:
    return bool(line.get("headers", {}).get("control") == word)


def is_position(line: Line) -> bool:
    return "position" in line


def changes(lines: list[Line]) -> list[Line]:
    return [line for line in lines if "operation" in line.get("headers", {})]


def operations(lines: list[Line]) -> list[tuple[str, Any]]:
    return [(line["headers"]["operation"], line["value"]["id"]) for line in changes(lines)]


async def materialised(items: Items, shape: Line | str, marker: Line) -> list[dict[str, Any]]:
    async with NodeProgram("rows.mjs", items.url, shape, marker) as program:
        rows: list[Line] = (await program.lines_until(lambda line: "rows" in line))[-1]["rows"]
        return rows


async def test_a_thousand_rows(items: Items) -> None:
    items.fill(1000)
    rows = await materialised(items, items.table, {"id": 1000})
    assert by_id(rows) == items.selected(AS_TYPESCRIPT)


async def test_rows_follow_inserts_updates_and_deletes(items: Items) -> None:
    items.fill(20)
    async with NodeProgram("rows.mjs", items.url, items.table, {"id": -1}) as program:
        assert await program.line() == {"synced": 20}
        items.sql("UPDATE items SET name = 'new', price = NULL, tags = '{}' WHERE id <= 5")
        items.sql("DELETE FROM items WHERE id BETWEEN 4 AND 8")
        items.sql("UPDATE items SET id = id + 100 WHERE id IN (1, 20)")
        items.sql("INSERT INTO items VALUES (4, 'again', 0, '{NULL}', NULL, NULL, NULL)")
        items.sql("INSERT INTO items VALUES (-1, 'the end')")
        rows = (await program.line())["rows"]
    assert by_id(rows) == items.selected(AS_TYPESCRIPT)


async def test_changes_arrive_live_and_in_order(items: Items) -> None:
    items.fill(2)
    async with NodeProgram("follow.mjs", items.url, items.table) as program:
        assert operations(await program.lines_until(is_up_to_date)) == [("insert", 1), ("insert", 2)]
        items.sql("INSERT INTO items VALUES (3, 'three')")
        items.sql("UPDATE items SET name = 'drei' WHERE id = 3")
        items.sql("DELETE FROM items WHERE id = 3")
        heard = changes(await program.lines_until(lambda line: ("delete", 3) in operations([line])))
    assert operations(heard) == [("insert", 3), ("update", 3), ("delete", 3)]
    assert heard[1]["value"] == {"id": 3, "name": "drei"}
    assert heard[2]["value"] == {"id": 3}
    assert len({line["key"] for line in heard}) == 1


async def test_resuming(items: Items) -> None:
    items.fill(3)
    async with NodeProgram("follow.mjs", items.url, items.table) as program:
        await program.lines_until(is_up_to_date)
        position = (await program.lines_until(is_position))[-1]["position"]
    items.sql("UPDATE items SET name = 'while away' WHERE id = 2")
    async with NodeProgram("follow.mjs", items.url, {"table": items.table, **position}) as program:
        heard = changes(await program.lines_until(is_up_to_date))
    assert operations(heard) == [("update", 2)]


async def test_where_with_params(items: Items) -> None:
    items.fill(10)
    shape = {
        "table": items.table,
        "where": "id > $1 AND (name = $2 OR ok = $3)",
        "params": {"1": "3", "2": "item 5", "3": "true"},
    }
    async with NodeProgram("rows.mjs", items.url, shape, {"name": "end"}) as program:
        await program.line()
        items.sql("UPDATE items SET ok = false WHERE id = 6")
        items.sql("UPDATE items SET ok = true WHERE id = 7")
        items.sql("INSERT INTO items VALUES (11, 'out', 0, '{}', now(), false)")
        items.sql("INSERT INTO items VALUES (12, 'end', 0, '{}', NULL, true)")
        rows = (await program.line())["rows"]
    condition = "id > 3 AND (name = 'item 5' OR ok)"
    assert by_id(rows) == items.selected(AS_TYPESCRIPT, condition)
    assert [row["id"] for row in by_id(rows)] == [4, 5, 7, 8, 10, 12]


async def test_columns(items: Items) -> None:
    items.fill(3)
    shape = {"table": items.table, "columns": ["id", "name"]}
    async with NodeProgram("rows.mjs", items.url, shape, {"name": "end"}) as program:
        await program.line()
        items.sql("UPDATE items SET price = 99 WHERE id = 1")
        items.sql("UPDATE items SET price = 99, name = 'two' WHERE id = 2")
        items.sql("INSERT INTO items VALUES (4, 'end', 5)")
        rows = (await program.line())["rows"]
    assert by_id(rows) == items.selected("id, name")


async def test_full_replica(items: Items) -> None:
    items.fill(1)
    shape = {"table": items.table, "replica": "full", "columns": ["id", "name", "price"]}
    async with NodeProgram("follow.mjs", items.url, shape) as program:
        await program.lines_until(is_up_to_date)
        items.sql("UPDATE items SET name = 'new' WHERE id = 1")
        items.sql("DELETE FROM items WHERE id = 1")
        update, delete = changes(await program.lines_until(lambda line: ("delete", 1) in operations([line])))
    assert update["value"] == {"id": 1, "name": "new", "price": "0.14"}
    assert update["old_value"] == {"name": "item 1"}
    assert delete["value"] == {"id": 1, "name": "new", "price": "0.14"}


async def test_truncate(items: Items) -> None:
    items.fill(5)
    async with NodeProgram("follow.mjs", items.url, items.table) as program:
        await program.lines_until(is_up_to_date)
        before = (await program.line())["position"]
        items.sql("BEGIN; TRUNCATE items; INSERT INTO items VALUES (7, 'after'); COMMIT")
        assert changes(await program.lines_until(is_must_refetch)) == []
        heard = await program.lines_until(is_up_to_date)
        after = (await program.line())["position"]
    assert operations(heard) == [("insert", 7)]
    assert after["handle"] != before["handle"]


async def test_rows_after_truncate(items: Items) -> None:
    items.fill(5)
    async with NodeProgram("rows.mjs", items.url, items.table, {"name": "end"}) as program:
        await program.line()
        items.sql("TRUNCATE items")
        items.sql("INSERT INTO items VALUES (6, 'end')")
        assert [row["id"] for row in (await program.line())["rows"]] == [6]


async def test_deletion_of_the_shape(items: Items) -> None:
    items.fill(3)
    async with NodeProgram("follow.mjs", items.url, items.table) as program:
        await program.lines_until(is_up_to_date)
        before = (await program.line())["position"]
        async with httpx.AsyncClient() as http:
            deleted = await http.delete(items.shape_url, params={"table": items.table})
        assert deleted.status_code == 202
        await program.lines_until(is_must_refetch)
        heard = await program.lines_until(is_up_to_date)
        after = (await program.line())["position"]
    assert sorted(operations(heard)) == [("insert", 1), ("insert", 2), ("insert", 3)]
    assert after["handle"] != before["handle"]


async def test_two_hundred_streams_on_one_shape(items: Items) -> None:
    items.fill(50)
    async with NodeProgram("herd.mjs", items.url, items.table, "200", {"name": "end"}) as program:
        assert await program.line() == {"synced": 200}
        items.sql("UPDATE items SET name = 'new' WHERE id % 2 = 0")
        items.sql("DELETE FROM items WHERE id % 5 = 0")
        items.sql("INSERT INTO items VALUES (-1, 'end')")
        result = await program.line()
    assert result["distinct"] == 1
    assert by_id(result["rows"]) == items.selected(AS_TYPESCRIPT)


async def test_a_refusal_reaches_the_program(items: Items) -> None:
    async with NodeProgram("follow.mjs", items.url, "nowhere") as program:
        line = await program.line()
    assert (line["error"], line["status"]) == ("FetchError", 400)


async def test_server_sent_events_of_a_busy_shape(items: Items) -> None:
    """One stream has all changes. The client gives up streams that end early three times."""
    items.fill(1)
    shape = {"table": items.table, "liveSse": True}
    stop = threading.Event()

    def write() -> None:
        number = 2
        while not stop.is_set():
            items.sql(f"INSERT INTO items VALUES ({number}, 'busy')")
            number += 1
        items.sql("INSERT INTO items VALUES (-1, 'end')")

    writing = asyncio.create_task(asyncio.to_thread(write))
    try:
        async with NodeProgram("follow.mjs", items.url, shape) as program:
            heard = await program.lines_until(lambda line: bool(operations([line])))
            while len(changes(heard)) < 300:
                heard.append(await program.line())
            stop.set()
            heard += await program.lines_until(lambda line: ("insert", -1) in operations([line]))
    finally:
        stop.set()
        await writing
    numbers = [number for _, number in operations(heard)]
    assert numbers[:-1] == list(range(1, len(numbers)))
    live = [line["request"] for line in heard if "live" in line.get("request", {})]
    assert [request["live_sse"] for request in live] == ["true"]


async def test_a_dropped_table_is_a_refetch_before_it_is_an_error(items: Items) -> None:
    """The client ends with a 400; what it has is discarded before."""
    items.fill(2)
    async with NodeProgram("follow.mjs", items.url, items.table) as program:
        await program.lines_until(is_position)
        items.sql("DROP TABLE items")
        heard = await program.lines_until(lambda line: "error" in line)
    assert any(is_must_refetch(line) for line in heard)
    assert heard[-1]["status"] == 400


async def test_a_client_between_polls_discards_the_rows_of_a_dropped_table(items: Items) -> None:
    items.fill(2)
    async with NodeProgram("follow.mjs", items.url, items.table) as program:
        position = (await program.lines_until(is_position))[-1]["position"]
    items.sql("DROP TABLE items")
    async with NodeProgram("follow.mjs", items.url, {"table": items.table, **position}) as program:
        heard = await program.lines_until(lambda line: "error" in line)
    assert any(is_must_refetch(line) for line in heard)
    assert heard[-1]["status"] == 400
