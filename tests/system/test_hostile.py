"""A server under fire answers others, keeps its memory and loses no shape."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
from tests.oracle import http_fuzz
from tests.support.clients.hostile import KINDS, Kind, Target, at_work
from tests.support.postgres.databases import fresh_database
from tests.support.servers.besieged import LIMIT_S, SECRET, Besieged, besieged

from pgshapes.embedded.server import EmbeddedPostgres

CONNECTIONS = 4
PROBES = 5
GROWTH_MB = 100

both_forms = pytest.mark.parametrize(
    "scene",
    [
        pytest.param(workers, marks=pytest.mark.xdist_group(f"besieged, {workers} workers"))
        for workers in (0, 2)
    ],
    indirect=True,
    ids=["one process", "workers"],
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
@pytest.mark.parametrize("name", [*KINDS, "all"])
async def test_others_are_answered(scene: Besieged, name: str) -> None:
    before = scene.memory_mb()
    kinds = list(KINDS) if name == "all" else [name]
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
            assert await asyncio.to_thread(scene.health_s) < LIMIT_S, "health was not answered"
        grown = await asyncio.to_thread(scene.memory_mb) - before
    assert min(begun.values()) >= CONNECTIONS
    assert grown < GROWTH_MB
    assert await asyncio.to_thread(scene.lost) == 0


def read_log(scene: Besieged, client: httpx.Client, offset: str) -> httpx.Response:
    query = f"{scene.target.log_query}&offset={offset}&secret={SECRET}"
    return client.get(f"{scene.server.url}/v1/shape?{query}")


@both_forms
def test_no_descriptors_left(scene: Besieged) -> None:
    """A shape that cannot be opened for want of descriptors is not deleted."""
    assert scene.server.process is not None
    pids = scene.server.children()[1:] or [scene.server.process.pid]
    offsets = scene.target.offsets
    with httpx.Client(timeout=LIMIT_S) as client:
        assert read_log(scene, client, offsets[0]).status_code == 200
        before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
        try:
            for pid, (_, hard) in before.items():
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
            # More than the cache of bodies has.
            answers = [read_log(scene, client, offset) for offset in offsets[:20]]
        finally:
            for pid, limits in before.items():
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert {answer.status_code for answer in answers} <= {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert int(refused.headers["retry-after"]) > 0
        assert {read_log(scene, client, offset).status_code for offset in offsets[:20]} == {200}
    assert scene.lost() == 0
    assert "Traceback" not in scene.server.log_path.read_text()


@both_forms
@pytest.mark.slow
async def test_mutated_requests(scene: Besieged) -> None:
    statuses = await http_fuzz.fuzz(scene.server.port, 1, 600)
    assert sum(statuses.values()) == 600
    assert {200, 400, 401} <= statuses.keys()
    await asyncio.to_thread(http_fuzz.check, scene, statuses)
