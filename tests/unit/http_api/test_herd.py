"""Admission: which requests take which permit, and how many a herd takes."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest
from tests.support.seams.http_fakes import ITEMS, Client, Connection, FakeBackend, turns

from pgshapes.config_values import parse_networks
from pgshapes.errors import CreationFailed, RequestError
from pgshapes.gates.admission import Kind
from pgshapes.gates.conditions import Level
from pgshapes.http_api.settings import HttpSettings

FRESH = "table=items&offset=-1"


def in_use(client: Client) -> tuple[int, int]:
    return client.admission.in_use(Kind.INITIAL), client.admission.in_use(Kind.EXISTING)


async def test_a_herd_on_a_fresh_shape_takes_one_initial_permit() -> None:
    backend = FakeBackend()
    backend.creating = asyncio.Event()
    client = Client(backend, initial=2)
    herd = [client.hold(FRESH) for _ in range(500)]
    await turns()
    assert in_use(client) == (1, 499)
    backend.creating.set()
    assert {(await one.whole()).status for one in herd} == {200}
    assert in_use(client) == (0, 0)


async def test_a_herd_on_a_cold_schema_takes_one_initial_permit() -> None:
    backend = FakeBackend()
    backend.resolving = asyncio.Event()
    backend.creating = asyncio.Event()
    client = Client(backend, initial=2)
    herd = [client.hold(FRESH) for _ in range(500)]
    await turns()
    assert in_use(client) == (1, 499)
    backend.resolving.set()
    await turns()
    assert in_use(client)[0] <= 1
    backend.creating.set()
    assert {(await one.whole()).status for one in herd} == {200}


async def test_a_request_that_waits_for_readiness_holds_no_initial_permit() -> None:
    backend = FakeBackend()
    backend.add(ITEMS, "17-4")
    backend.now = Level.STARTING
    client = Client(backend, initial=1)
    answers = [await one.whole() for one in [client.hold(FRESH) for _ in range(5)]]
    assert {answer.status for answer in answers} == {503}
    assert answers[0].json == {"message": "Timeout waiting for Postgres lock acquisition"}
    assert answers[0].headers["retry-after"] == "5"


async def test_a_request_that_waits_to_create_holds_no_initial_permit() -> None:
    backend = FakeBackend()
    backend.now = Level.READ_ONLY
    backend.ready = asyncio.Event()
    client = Client(backend, initial=1)
    herd = [client.hold(f"table=t{number}&offset=-1") for number in range(5)]
    await turns()
    assert in_use(client) == (0, 5)
    backend.ready.set()
    assert {(await one.whole()).status for one in herd} == {200}


async def test_a_body_that_is_not_received_releases_the_permit() -> None:
    client = Client(FakeBackend(), HttpSettings(body_timeout_s=0.01))
    slow = client.open("POST", "/v1/shape", FRESH, is_complete=False)
    answer = await slow.whole()
    assert (answer.status, answer.json) == (400, {"error": "Failed to read request body"})
    assert in_use(client) == (0, 0)


async def test_bodies_that_do_not_come_take_no_permit() -> None:
    client = Client(FakeBackend(), initial=2)
    waiting = [client.open("POST", "/v1/shape", FRESH, is_complete=False) for _ in range(310)]
    await turns()
    assert in_use(client) == (0, 0)
    assert (await client.get(FRESH)).status == 200
    for connection in waiting:
        connection.disconnect()
    await asyncio.gather(*(connection.task for connection in waiting))
    assert in_use(client) == (0, 0)


async def test_one_address_has_its_share_of_the_permits() -> None:
    backend = FakeBackend()
    backend.creating = asyncio.Event()
    client = Client(backend, initial=8)
    own = [client.hold(f"table=t{number}&offset=-1", address="192.0.2.1") for number in range(10)]
    await turns()
    assert in_use(client) == (6, 0)
    assert [one.answer.status for one in own] == [0] * 6 + [503] * 4
    other = client.hold("table=other&offset=-1", address="192.0.2.2")
    await turns()
    assert in_use(client) == (7, 0)
    backend.creating.set()
    assert (await other.whole()).status == 200
    assert [(await one.whole()).status for one in own] == [200] * 6 + [503] * 4
    assert client.admission._held == [{}, {}]


async def test_a_trusted_proxy_names_its_clients() -> None:
    backend = FakeBackend()
    backend.creating = asyncio.Event()
    client = Client(backend, HttpSettings(trusted_proxies=parse_networks("10.0.0.0/8")), initial=8)

    def through_proxy(table: str, forwarded: str | None) -> Connection:
        headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
        return client.hold(f"table={table}&offset=-1", address="10.0.0.1", headers=headers)

    own = [through_proxy(f"t{number}", "192.0.2.1") for number in range(10)]
    await turns()
    assert [one.answer.status for one in own] == [0] * 6 + [503] * 4
    rest = [through_proxy("u0", "192.0.2.2"), through_proxy("u1", None)]
    await turns()
    assert in_use(client) == (8, 0)
    backend.creating.set()
    assert [(await one.whole()).status for one in rest] == [200, 200]
    for one in own:
        await one.whole()


async def test_each_new_shape_takes_an_initial_permit() -> None:
    backend = FakeBackend()
    backend.creating = asyncio.Event()
    client = Client(backend, initial=2)
    first = [client.hold(f"table=t{number}&offset=-1") for number in range(2)]
    await turns()
    refused = await client.get("table=t3&offset=-1")
    assert refused.status == 503
    assert refused.json["code"] == "concurrent_request_limit_exceeded"
    assert refused.headers["electric-internal-known-error"] == "true"
    assert refused.headers["cache-control"] == "no-store"
    assert int(refused.headers["retry-after"]) >= 1
    backend.creating.set()
    assert {(await one.whole()).status for one in first} == {200}


@pytest.mark.parametrize(
    ("handle", "kind"), [("17-4", Kind.EXISTING), ("unknown", Kind.INITIAL), ("", Kind.INITIAL)]
)
async def test_the_kind_of_permit_depends_on_the_handle(handle: str, kind: Kind) -> None:
    backend = FakeBackend()
    backend.add(ITEMS, "17-4")
    client = Client(backend, initial=1, existing=1)
    taken = client.admission.acquire(kind)
    answer = await client.get(f"table=items&handle={handle}&offset=-1")
    assert answer.status == 503
    assert kind.value in answer.json["message"]
    taken.release()


async def test_a_request_is_refused_before_it_is_validated() -> None:
    backend = FakeBackend()
    backend.now = Level.STARTING
    client = Client(backend, initial=0)
    answer = await client.ask("POST", "/v1/shape", "nonsense", body=b"not json")
    assert answer.status == 503
    assert answer.headers["cache-control"] == "no-cache"
    assert backend.calls == []


async def test_an_initial_permit_is_kept_at_the_limit_of_existing_ones() -> None:
    backend = FakeBackend()
    backend.add(ITEMS, "17-4")
    client = Client(backend, existing=0)
    assert (await client.get(FRESH)).status == 200
    assert in_use(client) == (0, 0)


async def test_other_routes_need_no_permit() -> None:
    client = Client(FakeBackend(), initial=0, existing=0)
    assert (await client.ask("OPTIONS", "/v1/shape")).status == 204
    assert (await client.ask("DELETE", "/v1/shape")).status == 405
    assert (await client.ask("GET", "/v1/health")).status == 200


@pytest.mark.parametrize("query", [FRESH, "table=items", "offset=-1", "table=items&offset=0_0&handle=x"])
async def test_permits_are_released_after_failures(query: str) -> None:
    backend = FakeBackend()
    backend.create_error = CreationFailed("no")
    client = Client(backend)
    assert (await client.get(query)).status >= 400
    assert in_use(client) == (0, 0)


async def test_a_disconnect_during_a_creation_releases_the_permit() -> None:
    backend = FakeBackend()
    backend.creating = asyncio.Event()
    client = Client(backend)
    leaving = client.hold(FRESH)
    await turns()
    leaving.disconnect()
    await turns()
    assert in_use(client) == (0, 0)
    assert leaving.answer.status == 0
    staying = client.hold(FRESH)
    await turns()
    assert in_use(client) == (1, 0)
    backend.creating.set()
    assert (await staying.whole()).status == 200


async def test_a_permit_is_held_until_the_body_is_gone() -> None:
    """The server's `send` waits while the client does not read; the last message is sent after that."""
    backend = FakeBackend()
    backend.add(ITEMS, "1-1", chunks=[b"[" + b" " * 1_000_000 + b"]"])
    client, reads, sizes = Client(backend), asyncio.Event(), list[int]()

    async def send(message: Any) -> None:
        if sizes:
            await reads.wait()
        sizes.append(len(message.get("body", b"")))

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/v1/shape", "headers": []}
    work: Any = client.app(scope | {"query_string": FRESH.encode()}, receive, send)
    request: asyncio.Task[None] = asyncio.create_task(work)
    await turns()
    assert in_use(client) == (0, 1)
    reads.set()
    await request
    assert in_use(client) == (0, 0)
    assert sum(sizes) == 1_000_002
    assert max(sizes) == 128 * 1024
    assert sizes[-1] == 0


def errors_in_memory() -> int:
    """How many errors of requests exist: some are constants of other tests."""
    return sum(isinstance(each, RequestError) for each in gc.get_objects())


@pytest.mark.parametrize(
    "body", [{"columns": [f"c{number}" for number in range(3_000)]}, {"columns": 1}, {"where": []}]
)
async def test_a_refused_body_is_freed_at_once(body: dict[str, Any]) -> None:
    """Not by the garbage collector: strings do not count as objects, so it may come too late."""
    client = Client(FakeBackend())
    raw = json.dumps({"table": "items", "offset": "-1"} | body).encode()
    await client.ask("POST", "/v1/shape", "", body=raw)
    gc.collect()
    gc.disable()
    try:
        before = errors_in_memory()
        for _ in range(20):
            assert (await client.ask("POST", "/v1/shape", "", body=raw)).status == 400
        assert errors_in_memory() == before
    finally:
        gc.enable()
