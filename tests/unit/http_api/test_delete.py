"""Every response to DELETE `/v1/shape`."""

from __future__ import annotations

import pytest
from tests.support.seams.http_fakes import ITEMS, Answer, Client, FakeBackend, turns

from pgshapes.gates.conditions import Level
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.shape import RawShape

HANDLE = "17-4"
ALLOWED = HttpSettings(allow_delete=True, long_poll_timeout_ms=600_000)
MISMATCH = (
    "The specified shape definition and handle do not match. Please ensure the shape definition is correct or"
    " omit the shape handle from the request to obtain a new one."
)


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend()
    backend.add(ITEMS, HANDLE)
    backend.add(RawShape("public", "other"), "18-5")
    return backend


async def delete(backend: FakeBackend, query: str, settings: HttpSettings = ALLOWED) -> Answer:
    answer = await Client(backend, settings).ask("DELETE", "/v1/shape", query)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    return answer


@pytest.mark.parametrize("query", ["table=items", f"handle={HANDLE}", f"table=items&handle={HANDLE}"])
async def test_deletion(backend: FakeBackend, query: str) -> None:
    answer = await delete(backend, query)
    assert (answer.status, answer.body) == (202, b"")
    assert answer.headers["electric-has-data"] == "true"
    assert HANDLE not in backend.shapes


@pytest.mark.parametrize("query", ["table=third", "handle=unknown", "table=third&handle=unknown"])
async def test_no_such_shape(backend: FakeBackend, query: str) -> None:
    answer = await delete(backend, query)
    assert (answer.status, answer.json) == (404, {"message": "No existing shape found"})


@pytest.mark.parametrize("handle", ["18-5", "unknown"])
async def test_a_handle_of_another_definition(backend: FakeBackend, handle: str) -> None:
    answer = await delete(backend, f"table=items&handle={handle}")
    assert (answer.status, answer.json) == (400, {"message": MISMATCH})
    assert set(backend.shapes) == {HANDLE, "18-5"}


async def test_a_handle_that_only_the_owner_knows(backend: FakeBackend) -> None:
    backend.hidden.add(HANDLE)
    assert (await delete(backend, f"table=items&handle={HANDLE}")).status == 202


async def test_a_delete_without_table_and_handle(backend: FakeBackend) -> None:
    answer = await delete(backend, "")
    assert answer.status == 400
    assert answer.json == {
        "message": "Invalid request",
        "errors": {"handle": ["can't be blank when shape definition is missing"]},
    }


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("table=.x", {"table": ["Invalid zero-length delimited identifier"]}),
        ("table=items&replica=x", {"replica": ["is invalid"]}),
    ],
)
async def test_a_bad_definition(backend: FakeBackend, query: str, errors: object) -> None:
    answer = await delete(backend, query)
    assert (answer.status, answer.json["errors"]) == (400, errors)


async def test_not_allowed(backend: FakeBackend) -> None:
    answer = await delete(backend, "table=.x", HttpSettings())
    assert (answer.status, answer.json) == (405, {"message": "DELETE not allowed"})


async def test_not_active(backend: FakeBackend) -> None:
    backend.now = Level.READ_ONLY
    answer = await delete(backend, "table=items", HttpSettings())
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_held_requests_get_a_409(backend: FakeBackend) -> None:
    client = Client(backend, ALLOWED)
    held = client.hold(f"table=items&handle={HANDLE}&offset=0_inf&live=true")
    await turns()
    assert (await client.ask("DELETE", "/v1/shape", "table=items")).status == 202
    assert (await held.whole()).status == 409
