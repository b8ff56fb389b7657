"""The `/metrics` listener, and the sockets on which processes report their metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from pgshapes.metrics.family import COUNTER, Distribution, Family, counter, histogram, labelled
from pgshapes.metrics.loop_turns import LoopTurns
from pgshapes.server.http_server import listen
from pgshapes.server.metrics import fetch_metrics, metrics_listener, metrics_socket, process_families

FAMILIES = [
    counter("hits", "Hits.", 3),
    labelled(COUNTER, "calls", "Calls.", "call", {"create": 1}),
    histogram("waits", "Waits.", Distribution((1.0,))),
]


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a listener for one process that answers and one that does not."""
    paths = {"http-0": tmp_path / "http-0.metrics", "http-1": tmp_path / "http-1.metrics"}

    async def collect() -> Mapping[str, Sequence[Family] | None]:
        return {name: await fetch_metrics(path) for name, path in paths.items()}

    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with metrics_socket(paths["http-0"], lambda: FAMILIES), metrics_listener(listener, collect):
        yield f"http://127.0.0.1:{port}"


async def test_each_process_is_reported_under_its_name(url: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/metrics?x=1")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'pgshapes_hits_total{process="http-0"} 3.0' in answer.text
    assert 'pgshapes_process_up{process="http-0"} 1.0' in answer.text
    assert 'pgshapes_process_up{process="http-1"} 0.0' in answer.text


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/metrics/x"), ("POST", "/metrics")])
async def test_anything_else_is_not_found(url: str, method: str, path: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.request(method, url + path)
    assert (answer.status_code, answer.text) == (404, "Not found")


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n\r\n", b"GET\r\n\r\n", b"x" * 100_000, b"GET /metrics HTTP/1.1\r\n"]
)
async def test_a_connection_without_a_request_does_not_block_others(url: str, sent: bytes) -> None:
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    writer.close()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/metrics")).status_code == 200


async def test_families_are_received_unchanged(tmp_path: Path) -> None:
    async with metrics_socket(tmp_path / "m", lambda: FAMILIES):
        assert await fetch_metrics(tmp_path / "m") == FAMILIES
        assert await fetch_metrics(tmp_path / "m") == FAMILIES
    assert await fetch_metrics(tmp_path / "none") is None


async def test_the_socket_of_an_earlier_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m"
    async with metrics_socket(path, lambda: []):
        """The first process ends."""
    path.touch()
    async with metrics_socket(path, lambda: FAMILIES):
        assert await fetch_metrics(path) == FAMILIES


async def test_a_busy_loop_is_measured() -> None:
    turns = LoopTurns(interval_s=0.001)
    turns.start()
    used = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < used + 0.06:
        pass
    while not turns.late_s.count:
        await asyncio.sleep(0)
    turns.stop()
    assert turns.longest_s >= 0.05
    assert 0 < turns.busy_s.total <= turns.late_s.total
    families = {family.name for family in process_families(turns)}
    assert families >= {"loop_late_seconds", "loop_busy_seconds", "log_lines_lost"}
