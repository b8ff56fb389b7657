"""The requests of a stream, the messages that it returns, and its handling of errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest
from tests.unit.client.shape_server import ADDRESS, SCHEMA, Pauses, Planned, ShapeServer

from pgshapes.client import (
    Backoff,
    ChangeMessage,
    ControlMessage,
    Position,
    Query,
    ShapeStream,
    StreamOptions,
    fetch_rows,
)
from pgshapes.client.shape_stream import shape_url
from pgshapes.errors import ConfigError, NotNow, RequestError, WireError
from pgshapes.model.change import Operation

Open = Callable[..., ShapeStream]
UNAVAILABLE = Planned(503, {"retry-after": "7"}, b'{"message":"later"}')


async def until_up_to_date(stream: ShapeStream) -> list[ChangeMessage]:
    changes: list[ChangeMessage] = []
    async for message in stream:
        if isinstance(message, ChangeMessage):
            changes.append(message)
        elif message.control == "up-to-date":
            break
    return changes


async def test_the_first_sync_follows_the_offsets(open_stream: Open) -> None:
    server = ShapeServer(rows=2)
    server.change("update", 1, name="new")
    stream = open_stream(server)

    changes = await until_up_to_date(stream)

    assert [change.operation for change in changes] == [Operation.INSERT, Operation.INSERT, Operation.UPDATE]
    assert changes[0].value == {"id": 0, "name": "name 0"}
    assert stream.position == Position("handle-1", "1_0")
    assert stream.is_up_to_date
    assert server.requests == [
        {"table": "items", "log": "full", "offset": "-1"},
        {"table": "items", "log": "full", "offset": "0_0", "handle": "handle-1"},
    ]


async def test_every_message_comes_in_order_of_the_answers(open_stream: Open) -> None:
    stream = open_stream(ShapeServer(rows=1), is_live=False)
    words = [
        message.control if isinstance(message, ControlMessage) else message.key async for message in stream
    ]
    assert words == ['"public"."items"/"0"', "snapshot-end", "up-to-date"]


async def test_live_requests_carry_the_cursor(open_stream: Open) -> None:
    server = ShapeServer()
    stream = open_stream(server)
    await until_up_to_date(stream)

    following = asyncio.create_task(until_up_to_date(stream))
    await asyncio.sleep(0)
    server.change("insert", 1, name="a")
    assert [change.key for change in await following] == ['"public"."items"/"1"']
    server.change("delete", 1)
    await until_up_to_date(stream)

    first, second = server.requests[-2:]
    assert (first["live"], first["offset"], "cursor" in first) == ("true", "0_inf", False)
    assert (second["live"], second["offset"], second["cursor"]) == ("true", "1_0", "1001")


async def test_a_query_becomes_sorted_parameters(open_stream: Open) -> None:
    server = ShapeServer()
    query = Query(
        "public.items",
        where="name = $1 AND id > $2",
        params=["a,b", "3"],
        columns=["id", 'we"ird'],
        replica="full",
        extra={"secret": "s"},
    )
    await until_up_to_date(open_stream(server, query))
    assert server.requests[0] == {
        "columns": '"id","we""ird"',
        "log": "full",
        "offset": "-1",
        "params[1]": "a,b",
        "params[2]": "3",
        "replica": "full",
        "secret": "s",
        "table": "public.items",
        "where": "name = $1 AND id > $2",
    }
    assert list(server.requests[0]) == sorted(server.requests[0])


async def test_resuming_gives_only_what_came_after(open_stream: Open) -> None:
    server = ShapeServer(rows=3)
    server.change("insert", 7, name="seen")
    before = open_stream(server)
    await until_up_to_date(before)
    server.change("insert", 8, name="new")

    changes = await until_up_to_date(open_stream(server, start=before.position))

    assert [change.value["id"] for change in changes] == [8]


async def test_the_position_moves_with_the_last_message_of_an_answer(open_stream: Open) -> None:
    stream = open_stream(ShapeServer(rows=2))
    await anext(stream)
    assert stream.position == Position()
    await anext(stream)
    await anext(stream)
    assert stream.position == Position("handle-1", "0_0")


async def test_a_cancelled_wait_loses_nothing(open_stream: Open) -> None:
    server = ShapeServer()
    stream = open_stream(server)
    await until_up_to_date(stream)
    waiting = asyncio.create_task(stream.__anext__())
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    server.change("insert", 1, name="a")
    assert [change.value["id"] for change in await until_up_to_date(stream)] == [1]


async def test_a_rotation_is_a_message_and_refetched_past_caches(open_stream: Open) -> None:
    server = ShapeServer(rows=1)
    stream = open_stream(server)
    await until_up_to_date(stream)
    server.rotate(rows=2)

    words = [await anext(stream)]
    words += await until_up_to_date(stream)

    assert [getattr(word, "control", None) for word in words] == ["must-refetch", None, None]
    refetch = server.requests[-2]
    assert (refetch["offset"], refetch["handle"], refetch["expired_handle"]) == ("-1", "handle-2", "handle-1")
    assert len(refetch["cache-buster"]) >= 8
    assert "cache-buster" not in server.requests[-1]


async def test_a_rotation_while_a_request_is_held(open_stream: Open) -> None:
    server = ShapeServer(rows=1)
    stream = open_stream(server)
    await until_up_to_date(stream)
    waiting = asyncio.create_task(stream.__anext__())
    await asyncio.sleep(0.01)
    server.rotate(rows=2)
    assert (await waiting) == ControlMessage("must-refetch", {"control": "must-refetch"})
    assert len(await until_up_to_date(stream)) == 2


async def test_must_refetch_without_a_handle(open_stream: Open) -> None:
    server = ShapeServer(rows=1)
    stream = open_stream(server)
    await until_up_to_date(stream)
    server.incarnation += 1
    server.planned.append(Planned(409))
    await anext(stream)
    assert len(await until_up_to_date(stream)) == 1
    assert "handle" not in server.requests[-2]


async def test_endless_refetching_is_paced(open_stream: Open, pauses: Pauses) -> None:
    server = ShapeServer(rows=1)
    server.planned.extend([Planned(409)] * 3)
    assert len(await until_up_to_date(open_stream(server))) == 1
    assert pauses.delays_s == [0.5, 1.0]


async def test_failures_are_tried_again_with_growing_pauses(open_stream: Open, pauses: Pauses) -> None:
    server = ShapeServer(rows=1)
    server.planned.extend([Planned(500)] * 7 + [Planned(429)])
    assert len(await until_up_to_date(open_stream(server))) == 1
    assert pauses.delays_s == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]


async def test_retry_after_is_a_lower_bound(open_stream: Open, pauses: Pauses) -> None:
    server = ShapeServer(rows=1)
    server.planned.extend([UNAVAILABLE] * 6)
    await until_up_to_date(open_stream(server))
    assert pauses.delays_s == [7.0, 7.0, 7.0, 7.0, 8.0, 16.0]


async def test_pauses_are_reset_after_a_success(open_stream: Open, pauses: Pauses) -> None:
    server = ShapeServer(rows=1)
    stream = open_stream(server)
    server.planned.extend([Planned(500)] * 3)
    await until_up_to_date(stream)
    server.planned.append(Planned(500))
    server.change("insert", 5)
    await until_up_to_date(stream)
    assert pauses.delays_s == [0.5, 1.0, 2.0, 0.5]


async def test_max_retries(open_stream: Open, pauses: Pauses) -> None:
    server = ShapeServer()
    server.planned.extend([UNAVAILABLE] * 3)
    heard: list[str] = []
    stream = open_stream(server, max_retries=2, on_retry=lambda reason, delay_s: heard.append(reason))
    with pytest.raises(NotNow, match="later"):
        await anext(stream)
    assert len(pauses.delays_s) == len(heard) == 2


async def test_a_network_failure_is_tried_again(pauses: Pauses) -> None:
    server = ShapeServer(rows=1)
    inner = httpx.ASGITransport(app=server)
    failures = iter([httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])

    class Flaky(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            for failure in failures:
                raise failure
            return await inner.handle_async_request(request)

    options = StreamOptions(backoff=Backoff(chance=lambda: 0.5), sleep=pauses.sleep)
    async with httpx.AsyncClient(transport=Flaky()) as http:
        stream = ShapeStream(ADDRESS, "items", options=options, http=http)
        assert len(await until_up_to_date(stream)) == 1
    assert pauses.delays_s == [0.5, 1.0]


async def test_a_rejected_request_ends_the_stream(open_stream: Open) -> None:
    server = ShapeServer()
    body = {"message": "Invalid request", "errors": {"table": ["no such table"]}}
    server.planned.append(Planned(400, {}, json.dumps(body).encode()))
    with pytest.raises(RequestError, match="Invalid request") as caught:
        await anext(open_stream(server))
    assert caught.value.status == 400
    assert caught.value.errors == {"table": ["no such table"]}


@pytest.mark.parametrize("missing", ["electric-handle", "electric-offset", "electric-schema"])
async def test_an_answer_without_its_headers(open_stream: Open, missing: str) -> None:
    headers = {"electric-handle": "h", "electric-offset": "0_0", "electric-schema": json.dumps(SCHEMA)}
    del headers[missing]
    server = ShapeServer()
    server.planned.append(Planned(200, headers, b"[]"))
    with pytest.raises(WireError, match=missing):
        await anext(open_stream(server))


async def test_a_response_of_an_expired_shape_is_ignored(open_stream: Open, pauses: Pauses) -> None:
    server = ShapeServer(rows=1)
    stream = open_stream(server)
    await until_up_to_date(stream)
    stale = Planned(
        200,
        {"electric-handle": "handle-1", "electric-offset": "0_0", "electric-schema": json.dumps(SCHEMA)},
        b"[]",
    )
    server.rotate(rows=2)
    await anext(stream)
    server.planned.append(stale)
    assert len(await until_up_to_date(stream)) == 2
    assert len(pauses.delays_s) == 1
    busters = [request["cache-buster"] for request in server.requests if "cache-buster" in request]
    assert len(set(busters)) == 2


async def test_no_progress_is_an_error_in_the_end(open_stream: Open) -> None:
    server = ShapeServer()
    stuck = {"electric-handle": "h", "electric-offset": "0_0", "electric-schema": "{}"}
    server.planned.extend([Planned(200, stuck, b"[]")] * 10)
    with pytest.raises(WireError, match="no progress"):
        await until_up_to_date(open_stream(server))


async def test_values_as_postgres_wrote_them(open_stream: Open) -> None:
    changes = await until_up_to_date(open_stream(ShapeServer(rows=1), parses_values=False))
    assert changes[0].value == {"id": "0", "name": "name 0"}


async def test_chunks(open_stream: Open) -> None:
    server = ShapeServer(chunk_entries=2)
    for number in range(5):
        server.change("insert", number)
    assert [change.value["id"] for change in await until_up_to_date(open_stream(server))] == [0, 1, 2, 3, 4]


async def test_batches_give_the_rest_of_an_answer(open_stream: Open) -> None:
    stream = open_stream(ShapeServer(rows=3), is_live=False)
    await anext(stream)
    batch = await stream.next_batch()
    assert len(batch.messages) == 3
    assert batch.position == stream.position == Position("handle-1", "0_0")
    assert (await stream.next_batch()).is_up_to_date
    with pytest.raises(StopAsyncIteration):
        await stream.next_batch()


async def test_fetch_rows(connect: Callable[[ShapeServer], httpx.AsyncClient]) -> None:
    server = ShapeServer(rows=2)
    server.change("delete", 0)
    server.change("update", 1, name="new")
    rows = await fetch_rows(ADDRESS, "items", http=connect(server))
    assert rows == [{"id": 1, "name": "new"}]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://host:3000", "http://host:3000/v1/shape"),
        ("http://host/", "http://host/v1/shape"),
        ("https://host/api/shape?a=1", "https://host/api/shape?a=1"),
    ],
)
def test_addresses(given: str, asked: str) -> None:
    assert str(shape_url(given)) == asked


@pytest.mark.parametrize("given", ["host:3000", "ftp://host", "", "http://", "http://[::1"])
def test_invalid_addresses(given: str) -> None:
    with pytest.raises(ConfigError):
        shape_url(given)
