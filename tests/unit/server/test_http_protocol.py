"""What arrives before a request is known is bounded: in bytes, in number and in time."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.support.servers.front_door import GET, App, FrontDoor, front_door

from pgshapes.server import connections, http_protocol
from pgshapes.server.http_protocol import (
    DISCARD_TIMEOUT_S,
    HEAD_TIMEOUT_S,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    READ_WINDOW_S,
)


def head_of(size: int) -> bytes:
    start = b"GET / HTTP/1.1\r\nx: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


async def test_requests_one_after_another() -> None:
    async with front_door() as door:
        client = await door.connect()
        for _ in range(3):
            client.send(GET)
            assert await client.answer() == (200, b"hello")
        assert door.app.begun == 3


@pytest.mark.parametrize("step", [1, 3, 7, 64])
async def test_a_head_in_pieces(step: int) -> None:
    async with front_door() as door:
        client = await door.connect()
        data = GET * 3
        for start in range(0, len(data), step):
            client.send(data[start : start + step])
            await asyncio.sleep(0)
        assert [await client.answer() for _ in range(3)] == [(200, b"hello")] * 3
        assert door.app.most_at_once == 1
        assert door.connections.held_bytes == 0


@pytest.mark.parametrize("is_whole", [True, False])
async def test_the_largest_head(is_whole: bool) -> None:
    async with front_door() as door:
        client = await door.connect()
        data = head_of(MAX_HEAD_BYTES)
        if is_whole:
            client.send(GET)
            await client.answer()
        client.send(data)
        assert (await client.answer())[0] == 200


TOO_LARGE = {
    "one byte too many": (head_of(MAX_HEAD_BYTES + 1), 431),
    "a value without end": (b"GET / HTTP/1.1\r\nx: " + b"a" * MAX_HEAD_BYTES, 431),
    "a name without end": (b"GET / HTTP/1.1\r\n" + b"a" * MAX_HEAD_BYTES, 431),
    "a target without end": (b"GET /" + b"a" * MAX_HEAD_BYTES, 414),
    "a method without end": (b"G" * (MAX_HEAD_BYTES + 1), 400),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (MAX_HEADERS + 1) + b"\r\n", 431),
    "many headers without end": (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 100_000, 431),
    "empty lines": (b"\r\n" * 100_000, 431),
}


@pytest.mark.parametrize("name", TOO_LARGE)
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_head_that_is_too_large(name: str, is_first: bool) -> None:
    data, status = TOO_LARGE[name]
    async with front_door() as door:
        client = await door.connect()
        if not is_first:
            client.send(GET)
            await client.answer()
        client.send(data)
        assert (await client.answer())[0] == status
        assert door.app.begun == (not is_first)
        client.send(GET)
        door.check(http_protocol._LINGER_S + 1)
        assert await client.is_closed()
        assert door.app.begun == (not is_first), "nothing is parsed after a refusal"


async def test_little_is_read_after_a_refusal() -> None:
    """Else a connection that sends without end takes its turns until it is closed."""
    async with front_door() as door:
        client = await door.connect()
        client.send(head_of(MAX_HEAD_BYTES + 1))
        assert (await client.answer())[0] == 431
        protocol = door.protocols()[0]
        for _ in range(2 * http_protocol._LARGEST_IGNORED // 65_536):
            protocol.data_received(bytes(65_536))
        assert not protocol.transport.is_reading()
        door.check(http_protocol._LINGER_S + 1)
        assert await client.is_closed()


async def test_as_many_headers_as_are_allowed() -> None:
    async with front_door() as door:
        client = await door.connect()
        client.send(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * MAX_HEADERS + b"\r\n")
        assert (await client.answer())[0] == 200


async def test_requests_sent_ahead_are_parsed_one_by_one() -> None:
    """Without reading an answer a client has one request in progress and one read of bytes waiting."""
    app = App()
    app.hold = asyncio.Event()
    async with front_door(app) as door:
        client = await door.connect()
        client.send(GET * 20_000)
        await door.until(lambda: app.begun == 1 and door.connections.held_bytes)
        (protocol,) = door.protocols()
        assert protocol.transport.is_reading() is False
        assert not protocol.pipeline
        kept = door.connections.held_bytes
        assert kept <= 256 * 1024
        for _ in range(50):
            await asyncio.sleep(0)
        assert (app.begun, door.connections.held_bytes) == (1, kept)
        app.hold.set()
        assert [await client.answer() for _ in range(20_000)] == [(200, b"hello")] * 20_000
        assert (app.begun, app.most_at_once) == (20_000, 1)
        assert door.connections.held_bytes == 0


async def test_no_request_begins_while_answers_are_not_read() -> None:
    app = App()
    app.body = b"x" * 60_000
    async with front_door(app) as door:
        client = await small_reader(door)
        requests = 2_000
        client.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(client, GET * requests)
        await door.until(lambda: any(each.flow.write_paused for each in door.protocols()))
        (protocol,) = door.protocols()
        begun = app.begun
        for _ in range(50):
            await asyncio.sleep(0)
        assert app.begun == begun < requests
        assert protocol.transport.get_write_buffer_size() < 65_536 + 2 * len(app.body)
        await read_all(client, requests * len(app.body))
        while app.begun < requests:
            await read_all(client, 1)
        client.close()


async def small_reader(door: FrontDoor) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", door.port))
    return client


async def read_all(client: socket.socket, size: int) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while size > 0:
            size -= len(await loop.sock_recv(client, 1 << 20))


@pytest.mark.parametrize("size", [1, 300, 70_000, 200_000])
async def test_bodies_followed_by_requests(size: int) -> None:
    """A body may contain what ends a head; what follows it is a request."""
    async with front_door() as door:
        client = await door.connect()
        body = (b"\r\n\r\n" * size)[:size]
        post = b"POST /post HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (size, body)
        client.send((post + GET) * 3)
        assert [(await client.answer())[0] for _ in range(6)] == [200] * 6
        assert door.app.targets == ["/post", "/"] * 3


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nx: y\r\n", b"\r\n"])
async def test_a_head_that_does_not_come(sent: bytes) -> None:
    async with front_door() as door:
        client = await door.connect()
        client.send(sent)
        await door.until(lambda: door.connections.held_bytes == len(sent) and door.protocols())
        door.check(HEAD_TIMEOUT_S - 1)
        assert not any(each.transport.is_closing() for each in door.protocols())
        door.check(HEAD_TIMEOUT_S + 1)
        assert (await client.answer())[0] == (408 if sent else 0)
        door.check(HEAD_TIMEOUT_S + 9)
        assert await client.is_closed()
        assert len(door.connections) == 0


async def test_an_idle_connection_is_kept() -> None:
    async with front_door() as door:
        client = await door.connect()
        client.send(GET)
        await client.answer()
        door.check(HEAD_TIMEOUT_S + 60)
        client.send(GET)
        assert (await client.answer())[0] == 200


async def test_a_later_head_has_its_own_time() -> None:
    async with front_door() as door:
        client = await door.connect()
        client.send(GET)
        await client.answer()
        client.send(GET[:-2])
        await door.until(lambda: door.connections.held_bytes)
        door.check(HEAD_TIMEOUT_S + 1)
        assert (await client.answer())[0] == 408


async def test_time_does_not_run_while_a_request_is_answered() -> None:
    app = App()
    app.hold = asyncio.Event()
    async with front_door(app) as door:
        client = await door.connect()
        client.send(GET + GET[:9])
        await door.until(lambda: door.connections.held_bytes)
        door.check(HEAD_TIMEOUT_S + 50)
        app.hold.set()
        assert (await client.answer())[0] == 200
        client.send(GET[9:])
        assert (await client.answer())[0] == 200


async def test_a_body_that_is_not_wanted_any_more() -> None:
    async with front_door() as door:
        client = await door.connect()
        client.send(b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\nsome")
        assert (await client.answer())[0] == 200
        door.check(0)
        door.check(DISCARD_TIMEOUT_S + 1)
        assert await client.is_closed()


async def test_a_client_that_does_not_read() -> None:
    app = App()
    app.body = b"x" * 20_000_000
    async with front_door(app) as door:
        client = await small_reader(door)
        await asyncio.get_running_loop().sock_sendall(client, GET)
        await door.until(lambda: door.protocols() and door.protocols()[0].flow.write_paused)
        door.check(0)
        door.check(READ_WINDOW_S - 1)
        assert len(door.connections) == 1
        door.check(READ_WINDOW_S + 1)
        await door.until(lambda: not len(door.connections))
        client.close()


async def test_a_client_that_reads_slowly() -> None:
    app = App()
    app.body = b"x" * 20_000_000
    async with front_door(app) as door:
        client = await small_reader(door)
        await asyncio.get_running_loop().sock_sendall(client, GET)
        await door.until(lambda: door.protocols() and door.protocols()[0].flow.write_paused)
        for window in range(3):
            door.check(window * (READ_WINDOW_S + 1))
            await read_all(client, 1_000_000)
        assert len(door.connections) == 1
        client.close()


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\0" * 50,
    b"GET / HTTP/1.1\n\n",
]


@pytest.mark.parametrize("data", GARBAGE)
async def test_garbage(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with front_door() as door:
        client = await door.connect()
        client.send(data)
        assert (await client.answer())[0] == 400
        assert door.app.begun == 0
    assert caplog.text == ""


async def test_an_upgrade_is_not_made() -> None:
    async with front_door() as door:
        client = await door.connect()
        client.send(b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_bytes_of_all_connections_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HELD_BYTES_LIMIT", 10_000)
    async with front_door() as door:
        clients = [await door.connect() for _ in range(20)]
        for client in clients:
            client.send(GET[:-2] + b"x: " + b"a" * 1_000)
            await door.until(lambda: door.connections.held_bytes > 0)
        await door.until(lambda: door.connections.evicted >= 10)
        assert door.connections.held_bytes <= 10_000
        clients[-1].send(b"\r\n\r\n")
        assert (await clients[-1].answer())[0] == 200
