"""Streams of server-sent events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.support.seams.http_fakes import ITEMS, Client, Connection, FakeBackend, turns

from pgshapes.http_api.body_cache import up_to_date
from pgshapes.http_api.large_body import PART_BYTES
from pgshapes.http_api.settings import HttpSettings
from pgshapes.http_api.sse import as_events
from pgshapes.model.offset import Offset
from pgshapes.model.shape import RawShape
from pgshapes.model.tail import Tail
from pgshapes.shape_log.store import ANY_SIZE, LogSlice

HANDLE = "17-4"
BASE = f"table=items&handle={HANDLE}&live=true&live_sse=true"
OPEN = f"{BASE}&offset=0_inf"


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend()
    backend.add(ITEMS, HANDLE)
    return backend


def messages(connection: Connection) -> list[Any]:
    text = connection.answer.body.decode()
    events = [event for event in text.split("\n\n") if event.startswith("data: ")]
    return [json.loads(event.removeprefix("data: ")) for event in events]


def shown(connection: Connection) -> list[Any]:
    """Operation positions of changes, and LSNs of control messages."""
    found = [message["headers"] for message in messages(connection)]
    return [one.get("op_position", one.get("global_last_seen_lsn")) for one in found]


async def test_the_start_of_a_stream(backend: FakeBackend) -> None:
    stream = Client(backend).hold(OPEN)
    await turns()
    headers = stream.answer.headers
    assert stream.answer.status == 200
    assert headers["content-type"] == "text/event-stream"
    assert headers["connection"] == "keep-alive"
    assert headers["cache-control"] == "public, max-age=59"
    assert {"electric-handle", "electric-offset", "electric-cursor", "etag"} <= headers.keys()
    assert "electric-schema" not in headers
    assert "content-length" not in headers
    assert headers["electric-offset"] == "0_inf"
    stream.disconnect()
    await turns()
    assert stream.task.done()


async def test_up_to_date_has_the_lsn_of_the_last_change_sent(backend: FakeBackend) -> None:
    stream = Client(backend).hold(OPEN)
    await turns()
    backend.lsn = 999
    backend.append(HANDLE, 50, 0, 2)
    await turns()
    backend.append(HANDLE, 60, 0)
    await turns()
    assert shown(stream) == [0, 2, "50", 0, "60"]
    assert not stream.answer.is_whole
    stream.disconnect()
    await turns()


async def test_an_open_stream_continues_after_the_end_of_a_chunk(backend: FakeBackend) -> None:
    stream = Client(backend).hold(OPEN)
    await turns()
    backend.append(HANDLE, 50, 0, is_chunk_end=True)
    backend.append(HANDLE, 60, 2, is_chunk_end=True)
    backend.append(HANDLE, 70, 4)
    await turns()
    assert shown(stream) == [0, 2, 4, "70"]
    backend.append(HANDLE, 80, 6)
    await turns()
    assert shown(stream)[4:] == [6, "80"]
    stream.disconnect()
    await turns()


async def test_a_stream_with_pending_data_sends_all_of_it_and_goes_on(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0, is_chunk_end=True)
    backend.append(HANDLE, 60, 2)
    stream = Client(backend).hold(OPEN)
    await turns()
    assert shown(stream) == [0, 2, "60"]
    backend.append(HANDLE, 70, 4)
    await turns()
    assert shown(stream) == [0, 2, "60", 4, "70"]
    assert not stream.answer.is_whole
    assert stream.answer.headers["electric-offset"] == "0_inf"
    stream.disconnect()
    await turns()


class Busy(FakeBackend):
    """A shape that is written to whenever it is read; `ending` is set after a few pieces."""

    ending: asyncio.Event | None = None

    async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        part = await super().read_log(handle, after, tail, most)
        await asyncio.sleep(0)
        if self.ending is not None and after.tx > 100:
            self.ending.set()
        self.append(handle, tail.latest.tx + 10, 0)
        return part


async def test_a_stream_that_is_never_idle_ends_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend, loop = Busy(), asyncio.get_running_loop()
    time, over = loop.time, asyncio.Event()
    monkeypatch.setattr(loop, "time", lambda: time() + (10 if over.is_set() else 0))
    backend.ending = over
    backend.add(ITEMS, HANDLE)
    backend.append(HANDLE, 50, 0)
    stream = Client(backend, HttpSettings(sse_timeout_ms=10_000)).hold(OPEN)
    await stream.whole()
    assert backend.reads[:2] == [f"{HANDLE} log 0_inf", f"{HANDLE} log 50_0"]
    assert shown(stream)[:4] == [0, "50", 0, "60"]
    assert shown(stream)[-2:] == [0, "120"]


async def test_a_stream_that_is_never_idle_ends_when_the_process_stops() -> None:
    backend = Busy()
    backend.add(ITEMS, HANDLE)
    backend.append(HANDLE, 50, 0)
    client = Client(backend)
    backend.ending = client.stopping
    stream = client.hold(OPEN)
    await stream.whole()
    assert shown(stream)[-2:] == [0, "120"]


class Flood(Busy):
    """A shape whose log grows by two chunks whenever one of them is read."""

    async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        part = await FakeBackend.read_log(self, handle, after, tail, most)
        await asyncio.sleep(0)
        latest = self.shapes[handle].tail.latest.tx
        for tx in (latest + 10, latest + 20):
            self.append(handle, tx, 0, is_chunk_end=True)
        if self.ending is not None and after.tx > 100:
            self.ending.set()
        assert after.tx < 1000, "it does not end"
        return part


def flood() -> Flood:
    backend = Flood()
    backend.add(ITEMS, HANDLE)
    for tx in (50, 60):
        backend.append(HANDLE, tx, 0, is_chunk_end=True)
    return backend


async def test_a_stream_that_never_catches_up_ends_at_the_end_that_the_log_had_when_its_time_was_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last message is `up-to-date`, without which a client discards the others."""
    backend, loop = flood(), asyncio.get_running_loop()
    time, over = loop.time, asyncio.Event()
    monkeypatch.setattr(loop, "time", lambda: time() + (10 if over.is_set() else 0))
    backend.ending = over
    stream = Client(backend, HttpSettings(sse_timeout_ms=10_000)).hold(OPEN)
    await stream.whole()
    found = shown(stream)
    assert over.is_set() and found[:-1] == [0] * (len(found) - 1)
    assert 110 < int(found[-1]) < backend.shapes[HANDLE].tail.latest.tx


async def test_a_stream_that_never_catches_up_ends_when_the_process_stops() -> None:
    backend = flood()
    client = Client(backend)
    backend.ending = client.stopping
    stream = client.hold(OPEN)
    await stream.whole()
    assert shown(stream) == [0] * 8, "what it was sending is the last"


async def test_pending_data_may_be_a_snapshot(backend: FakeBackend) -> None:
    shape = backend.shapes[HANDLE]
    shape.chunks.append(b'[{"key":"a","value":{},"headers":{"op_position":"row"}}]')
    backend.set_tail(HANDLE, shape.tail._replace(snapshot_chunks=2))
    stream = Client(backend).hold(f"{BASE}&offset=0_0")
    await turns()
    assert shown(stream) == ["row", "0"]
    backend.append(HANDLE, 50, 0)
    await turns()
    assert shown(stream) == ["row", "0", 0, "50"]
    stream.disconnect()
    await turns()


async def test_an_idle_stream_sends_keep_alive_comments(backend: FakeBackend) -> None:
    settings = HttpSettings(sse_keepalive_ms=5)
    stream = Client(backend, settings).hold(OPEN)
    await asyncio.wait_for(stream.body_came.wait(), 20)
    assert stream.answer.body.startswith(b": keep-alive\n\n")
    backend.append(HANDLE, 50, 0)
    await turns()
    assert shown(stream) == [0, "50"]
    stream.disconnect()
    await turns()


async def test_an_idle_stream_ends_without_a_message(backend: FakeBackend) -> None:
    answer = await Client(backend, HttpSettings(sse_timeout_ms=10)).hold(OPEN).whole()
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("has_successor", [False, True])
async def test_a_retired_shape_ends_its_streams(backend: FakeBackend, has_successor: bool) -> None:
    stream = Client(backend).hold(OPEN)
    await turns()
    backend.remove(HANDLE)
    if has_successor:
        backend.add(ITEMS, "18-5")
    answer = await stream.whole()
    assert answer.body == b""
    again = await Client(backend).hold(OPEN).whole()
    assert again.status == 409


async def test_stopping_ends_streams(backend: FakeBackend) -> None:
    client = Client(backend)
    stream = client.hold(OPEN)
    await turns()
    client.stopping.set()
    assert (await stream.whole()).body == b""


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"table=items&handle={HANDLE}&live_sse=true&offset=0_inf", 400),
        ("table=items&handle=other&live=true&live_sse=true&offset=0_inf", 409),
        (f"{BASE}&offset=9_0", 409),
    ],
)
async def test_an_error_before_the_stream_is_an_ordinary_response(
    backend: FakeBackend, query: str, status: int
) -> None:
    answer = await Client(backend, HttpSettings(long_poll_timeout_ms=10)).get(query)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def test_streams_at_the_same_offset_share_rendered_events(backend: FakeBackend) -> None:
    client = Client(backend)
    streams = [client.hold(OPEN) for _ in range(20)]
    await turns()
    backend.append(HANDLE, 50, 0)
    await turns()
    assert len(backend.reads) == 1
    assert all(shown(stream) == [0, "50"] for stream in streams)
    client.stopping.set()
    for stream in streams:
        await stream.whole()


async def test_two_shapes_do_not_share(backend: FakeBackend) -> None:
    backend.add(RawShape("public", "other"), "18-5")
    client = Client(backend)
    first, second = client.hold(OPEN), client.hold(OPEN.replace("items", "other").replace(HANDLE, "18-5"))
    await turns()
    backend.append("18-5", 50, 4)
    await turns()
    assert (shown(first), shown(second)) == ([], [4, "50"])
    client.stopping.set()
    await first.whole()
    await second.whole()


def test_events_keep_the_text_of_values() -> None:
    body = '[{"value":{"a":"},{ \\" ä \\n"}},{"b":null}]'.encode()
    events = as_events(body).decode().split("\n\n")
    assert [json.loads(event[6:]) for event in events[:2]] == json.loads(body)
    assert events[2] == ""


async def test_a_damaged_log_is_given_up_before_the_stream_begins(backend: FakeBackend) -> None:
    """As by an ordinary read: 409, and the shape is deleted."""
    backend.append(HANDLE, 50, 0)
    backend.shapes[HANDLE].is_damaged = True
    answer = await Client(backend).get(f"{BASE}&offset=0_inf")
    assert answer.status == 409
    assert HANDLE not in backend.shapes


async def test_a_stream_of_a_log_that_becomes_damaged_ends(backend: FakeBackend) -> None:
    client = Client(backend)
    stream = client.hold(OPEN)
    await turns()
    backend.shapes[HANDLE].is_damaged = True
    backend.append(HANDLE, 50, 0)
    await turns()
    assert stream.answer.is_whole
    assert messages(stream) == []
    assert (await client.get(OPEN)).status == 409


async def test_a_large_piece_is_sent_in_parts() -> None:
    """Nothing has all of it, however many slow readers there are."""
    backend = FakeBackend()
    shape = backend.add(ITEMS, HANDLE)
    message = b'{"key":"1","value":{"v":"%b"},"headers":{}}' % (b"x" * 300_000)
    shape.log = [(Offset(50, op), message) for op in range(2)]
    backend.set_tail(HANDLE, shape.tail._replace(latest=Offset(50, 1), position=(2,)))
    query = f"table=items&handle={HANDLE}&offset=0_0&live=true&live_sse=true"
    whole = await Client(backend, HttpSettings(sse_timeout_ms=20)).get(query)
    assert whole.body == as_events(b"[%b,%b,%b]" % (message, message, up_to_date(50)))
    assert max(backend.parts) <= PART_BYTES
