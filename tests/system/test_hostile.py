"""A server under fire answers others, keeps its memory and loses no shape."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial

import httpx
import pytest
from tests.oracle import http_fuzz
from tests.support.clients.hostile import KINDS, Kind, Target, at_work
from tests.support.clients.pending import until
from tests.support.postgres.databases import fresh_database
from tests.support.servers.besieged import LIMIT_S, SECRET, Besieged, besieged
from tests.support.servers.processes import session_members

from pgshapes.embedded.server import EmbeddedPostgres

CONNECTIONS = 4
PROBES = 3
GROWTH_MB = 100

FORMS = {0: "one process", 2: "workers"}
both_forms = pytest.mark.parametrize(
    "scene",
    [
        pytest.param(workers, marks=pytest.mark.xdist_group(f"besieged, {workers} workers"))
        for workers in FORMS
    ],
    indirect=True,
    ids=FORMS.values(),
)


@pytest.fixture(scope="module")
def scene(postgres_server: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[Besieged]:
    """A server that accepts few connections."""
    with (
        fresh_database(postgres_server) as url,
        besieged(url, offsets=20, workers=request.param, max_connections=64) as found,
    ):
        found.read_logs()
        yield found


@both_forms
@pytest.mark.slow
async def test_others_are_answered(scene: Besieged) -> None:
    """While each kind is at work, in one of the forms, as both have the same protocol in front; then all."""
    has_workers = bool(scene.server.children())
    for kind in list(KINDS)[has_workers :: len(FORMS)]:
        await check_others(scene, [kind])
    await check_others(scene, list(KINDS))


async def check_others(scene: Besieged, kinds: list[str]) -> None:
    """Check that health is answered, that memory does not grow, and that no shape is lost meanwhile."""
    before = scene.memory_mb()
    begun: dict[str, int] = dict.fromkeys(kinds, 0)

    def counted(kind: str) -> Kind:
        async def attack(target: Target) -> None:
            begun[kind] += 1
            await KINDS[kind](target)

        return attack

    async with AsyncExitStack() as stack:
        for kind in kinds:
            number = 200 if kind == "silent" else CONNECTIONS
            await stack.enter_async_context(at_work(counted(kind), scene.target, number))
        for _ in range(PROBES):
            answered_s = await asyncio.to_thread(scene.health_s)
            assert answered_s < LIMIT_S, f"health was not answered with {kinds}"
        grown = await asyncio.to_thread(scene.memory_mb) - before
    assert min(begun.values()) >= CONNECTIONS, begun
    assert grown < GROWTH_MB, kinds
    assert await asyncio.to_thread(scene.lost) == 0, kinds


def read_log(scene: Besieged, client: httpx.Client, offset: str) -> httpx.Response | None:
    """The response; None if it was begun with cached parts and ended where a file had to be opened."""
    query = f"{scene.target.log_query}&offset={offset}&secret={SECRET}"
    try:
        return client.get(f"{scene.server.url}/v1/shape?{query}")
    except httpx.RemoteProtocolError:
        return None


def statuses(answers: Iterable[httpx.Response | None]) -> set[int | None]:
    return {None if answer is None else answer.status_code for answer in answers}


@contextmanager
def no_descriptors(pids: list[int]) -> Iterator[None]:
    """During the block these processes can open nothing, and accept no connection."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    try:
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@both_forms
@pytest.mark.slow
def test_no_descriptors_left(scene: Besieged) -> None:
    """A shape that cannot be opened for want of descriptors is not deleted."""
    assert scene.server.process is not None
    pids = scene.server.children()[1:] or [scene.server.process.pid]
    offsets = scene.target.offsets
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=LIMIT_S))
        assert statuses([read_log(scene, client, offsets[0])]) == {200}
        # Open connections, because none is accepted; one for each response, which may break off.
        clients = [stack.enter_context(httpx.Client(timeout=LIMIT_S)) for _ in offsets[:20]]
        for one in clients:
            assert one.get(f"{scene.server.url}/v1/health").status_code == 200
        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        with no_descriptors(pids):
            # More than the cache of bodies has.
            answers = list(pool.map(partial(read_log, scene), clients, offsets[:20]))
        assert statuses(answers) <= {200, 503, None}
        refused = next(answer for answer in answers if answer and answer.status_code == 503)
        assert int(refused.headers["retry-after"]) > 0
        assert statuses(read_log(scene, client, offset) for offset in offsets[:20]) == {200}
    assert scene.lost() == 0
    assert "Traceback" not in scene.server.log_path.read_text()


@both_forms
def test_writes_and_connections_without_descriptors(scene: Besieged) -> None:
    """In every process: none ends, no shape is lost, and all goes on when there are descriptors again."""
    assert scene.server.process is not None
    pids = session_members(scene.server.process.pid)
    names = {"table": "log", "offset": "-1", "secret": SECRET}
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=LIMIT_S))
        assert client.get(f"{scene.server.url}/v1/health").status_code == 200
        address = ("127.0.0.1", scene.server.port)
        with no_descriptors(pids):
            for _ in range(20):
                stack.enter_context(socket.create_connection(address, LIMIT_S))
            scene.server.sql("INSERT INTO log SELECT -i, 'late' FROM generate_series(1, 50) i RETURNING id")
            first = client.get(scene.server.shape_url, params={**names, "where": "value = 'new'"})
            assert client.get(f"{scene.server.url}/v1/health").status_code in (200, 202)
        assert first.status_code in (200, 503)
        until(lambda: scene.health_s() < LIMIT_S, "new connections are answered")
        until(lambda: late_rows(scene) == set(range(-50, 0)), "all changes are delivered")
        until(
            lambda: (
                client.get(scene.server.shape_url, params={**names, "where": "value = 'new'"}).status_code
                == 200
            ),
            "new shapes are created",
        )
    assert scene.lost() == 0
    assert session_members(scene.server.process.pid) == pids
    assert "Traceback" not in scene.server.log_path.read_text()


def late_rows(scene: Besieged) -> set[int]:
    """The ids below zero in the long log."""
    found, offset = set(), scene.target.offsets[-1]
    with httpx.Client(timeout=LIMIT_S) as client:
        while True:
            answer = read_log(scene, client, offset)
            assert answer is not None
            answer.raise_for_status()
            found |= {int(each["value"]["id"]) for each in answer.json() if "value" in each}
            offset = answer.headers["electric-offset"]
            if "electric-up-to-date" in answer.headers:
                return {each for each in found if each < 0}


@both_forms
@pytest.mark.slow
async def test_mutated_requests(scene: Besieged) -> None:
    statuses = await http_fuzz.fuzz(scene.server.port, 1, 600)
    assert sum(statuses.values()) == 600
    assert {200, 400, 401} <= statuses.keys()
    await asyncio.to_thread(http_fuzz.check, scene, statuses)
