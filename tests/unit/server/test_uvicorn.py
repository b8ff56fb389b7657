"""What `server.http_protocol` and `server.http_server` use of uvicorn, which does not promise to keep it."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from tests.support.servers.front_door import GET, App, front_door
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from pgshapes.server.http_protocol import HttpProtocol
from pgshapes.server.http_server import _Server

ROOT = Path(__file__).parents[3]


def source_of(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def test_the_version_has_an_upper_bound() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (bounds,) = [each for each in given if each.startswith("uvicorn")]
    _, below = bounds.split(",<")
    numbers = version("uvicorn").split(".")
    assert [int(each) for each in below.split(".")] == [int(numbers[0]), int(numbers[1]) + 1], (
        f"{bounds}: {'.'.join(numbers)} is installed; check this file against it, then raise the bound"
    )


def test_methods_that_are_overridden() -> None:
    for name in ("connection_made", "connection_lost", "data_received", "resume_writing"):
        assert name in vars(HttpToolsProtocol), name
        assert name in vars(HttpProtocol), name
    assert "connections" in vars(ServerState())


def test_what_data_received_does() -> None:
    """Ours does this and nothing else for a complete request."""
    lines = [line.strip() for line in source_of(HttpToolsProtocol.data_received).splitlines()]
    assert lines[1:5] == ["self._unset_keepalive_if_required()", "", "try:", "self.parser.feed_data(data)"]


def test_a_message_has_a_scope_of_its_own() -> None:
    assert "self.scope = {" in source_of(HttpToolsProtocol.on_message_begin)
    assert "scope=self.scope" in source_of(HttpToolsProtocol.on_headers_complete)
    assert "self.scope = scope" in source_of(RequestResponseCycle.__init__)


def test_a_request_of_a_cycle() -> None:
    assert "on_response=self.on_response_complete" in source_of(HttpToolsProtocol.on_headers_complete)
    assert "self.on_response()" in source_of(RequestResponseCycle.send)
    assert "self.cycle.more_body = False" in source_of(HttpToolsProtocol.on_message_complete)
    assert "await self.flow.drain()" in source_of(RequestResponseCycle.send)


async def test_attributes() -> None:
    app = App()
    app.hold = asyncio.Event()
    async with front_door(app) as door:
        client = await door.connect()
        client.send(GET)
        await door.until(lambda: app.begun)
        (protocol,) = door.protocols()
        cycle = protocol.cycle
        assert (cycle.response_complete, cycle.more_body, cycle.disconnected) == (False, False, False)
        assert cycle.scope is protocol.scope
        assert cycle.on_response == protocol.on_response_complete
        assert isinstance(protocol.flow, FlowControl)
        assert (protocol.flow.read_paused, protocol.flow.write_paused) == (False, False)
        assert protocol.client is not None
        assert protocol.timeout_keep_alive_task is None
        assert not protocol.pipeline
        app.hold.set()
        assert (await client.answer())[0] == 200
        await door.until(lambda: protocol.timeout_keep_alive_task is not None)
        assert cycle.response_complete


class Part:
    """A listener, connection or socket of a server, which notes what the server asks of it."""

    def __init__(self, name: str, calls: list[str], connections: set[Any]) -> None:
        self.name = name
        self._calls = calls
        self._connections = connections

    def close(self) -> None:
        self._calls.append(f"close {self.name}")

    def shutdown(self) -> None:
        self._calls.append(f"shut down {self.name}")
        self._connections.discard(self)

    async def wait_closed(self) -> None:
        self._calls.append(f"wait for {self.name}")


def plain_server() -> Any:
    config = uvicorn.Config(App(), lifespan="off", ws="none", log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    return server


def test_methods_of_the_server_that_are_overridden() -> None:
    for name in ("startup", "shutdown", "capture_signals"):
        assert name in vars(uvicorn.Server), name
        assert name in vars(_Server), name
    serve = source_of(uvicorn.Server._serve)
    assert "await self.startup(sockets=sockets)" in serve
    assert "await self.shutdown(sockets=sockets)" in serve


def test_what_a_protocol_is_made_with() -> None:
    startup = source_of(uvicorn.Server.startup)
    given = ("config=config", "server_state=self.server_state", "app_state=self.lifespan.state")
    assert all(each in startup for each in given)
    assert inspect.signature(HttpToolsProtocol).parameters["_loop"].default is None


async def test_a_start_without_sockets() -> None:
    server = plain_server()
    await server.startup(sockets=[])
    assert server.started
    assert server.servers == []


async def test_the_order_of_a_shutdown() -> None:
    server = plain_server()
    calls: list[str] = []
    connections = server.server_state.connections
    server.servers = [Part(name, calls, connections) for name in ("server 1", "server 2")]
    connections.add(Part("connection", calls, connections))
    await server.shutdown(sockets=[Part("socket", calls, connections)])
    assert calls == [
        "close server 1",
        "close server 2",
        "close socket",
        "shut down connection",
        "wait for server 1",
        "wait for server 2",
    ]
