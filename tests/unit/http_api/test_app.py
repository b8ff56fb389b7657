"""The outer layers: routes, request ids, authentication, CORS, unexpected exceptions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog.testing
from tests.support.seams.http_fakes import CHUNK, ITEMS, Client, FakeBackend

from pgshapes import __version__
from pgshapes.errors import OwnerUnavailable, SourceError, StorageError
from pgshapes.gates.conditions import Level
from pgshapes.http_api import app
from pgshapes.http_api.response import ResponseAborted
from pgshapes.http_api.settings import HttpSettings
from pgshapes.limited_log import LimitedLog

HANDLE = "17-4"
EXPOSED = (
    "electric-cursor,electric-handle,electric-has-data,electric-offset,electric-schema,electric-up-to-date,"
    "electric-snapshot,electric-internal-known-error,retry-after,etag,x-request-id,electric-server,"
    "pgshapes-replication,pgshapes-waits-for"
)
DEFAULT_CACHE = "max-age=0, private, must-revalidate"
INITIAL = "table=items&offset=-1"


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend()
    backend.add(ITEMS, HANDLE)
    return backend


async def test_the_root_has_an_empty_body(backend: FakeBackend) -> None:
    answer = await Client(backend).ask("GET", "/")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["cache-control"] == DEFAULT_CACHE


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/v1"),
        ("GET", "/v1/shape/more"),
        ("POST", "/"),
        ("PUT", "/v1/shape"),
        ("OPTIONS", "/v1/health"),
        ("OPTIONS", "/"),
        ("DELETE", "/v1/health"),
    ],
)
async def test_other_paths_are_not_found(backend: FakeBackend, method: str, path: str) -> None:
    answer = await Client(backend).ask(method, path)
    assert (answer.status, answer.body) == (404, b"Not found")
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert answer.headers["cache-control"] == DEFAULT_CACHE


@pytest.mark.parametrize("path", ["/v1/shape", "/v1/shape/", "/v1/shape//", "//v1//shape"])
async def test_empty_path_segments_are_ignored(backend: FakeBackend, path: str) -> None:
    assert (await Client(backend).get(INITIAL)).body == CHUNK
    assert (await Client(backend).ask("GET", path, INITIAL)).body == CHUNK
    locked = Client(backend, HttpSettings(secret="s"))
    assert (await locked.ask("GET", path, INITIAL)).status == 401


async def test_the_application_can_be_mounted(backend: FakeBackend) -> None:
    answer = await Client(backend).ask("GET", "/sync/v1/shape", INITIAL, root_path="/sync")
    assert answer.body == CHUNK


async def test_head_is_get_without_a_body(backend: FakeBackend) -> None:
    client = Client(backend)
    answer = await client.ask("HEAD", "/v1/shape", INITIAL)
    full = await client.get(INITIAL)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == full.headers["content-length"]
    assert answer.headers["cache-control"] == full.headers["cache-control"]


async def test_every_answer_names_the_server(backend: FakeBackend) -> None:
    locked = Client(backend, HttpSettings(secret="s"))
    for path in ("/", "/v1/health", "/nowhere", "/v1/shape"):
        answer = await locked.ask("GET", path)
        assert answer.headers["electric-server"] == f"pgshapes/{__version__}"


@pytest.mark.parametrize(("length", "is_taken"), [(19, False), (20, True), (200, True), (201, False)])
async def test_request_ids_within_the_length_limits_are_used(
    backend: FakeBackend, length: int, is_taken: bool
) -> None:
    given = "r" * length
    answer = await Client(backend).ask("GET", "/", headers={"X-Request-Id": given})
    assert (answer.headers["x-request-id"] == given) is is_taken


async def test_generated_request_ids_differ(backend: FakeBackend) -> None:
    client = Client(backend)
    ids = {(await client.ask("GET", "/")).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(20 <= len(one) <= 200 for one in ids)


@pytest.mark.parametrize(("origin", "allowed"), [(None, "*"), ("https://a.example", "https://a.example")])
async def test_cors(backend: FakeBackend, origin: str | None, allowed: str) -> None:
    headers = {"Origin": origin} if origin else {}
    for path, methods in (("/v1/shape", "GET, POST, HEAD, DELETE, OPTIONS"), ("/v1/health", "GET, HEAD")):
        answer = await Client(backend).ask("GET", path, "", headers=headers)
        assert answer.headers["access-control-allow-origin"] == allowed
        assert answer.headers["access-control-expose-headers"] == EXPOSED
        assert answer.headers["access-control-allow-methods"] == methods


async def test_preflight(backend: FakeBackend) -> None:
    asked = {"Access-Control-Request-Headers": "content-type,x-evil"}
    answer = await Client(backend, HttpSettings(secret="s")).ask("OPTIONS", "/v1/shape", headers=asked)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-max-age"] == "86400"
    assert answer.headers["access-control-allow-headers"] == "content-type"
    assert answer.headers["connection"] == "keep-alive"
    assert "cache-control" not in answer.headers
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 401),
        ("secret=", 401),
        ("secret=wrong", 401),
        ("api_secret=wrong", 401),
        ("secret=wrong&api_secret=hush", 401),
        ("secret[]=hush", 401),
        ("secret=hush", 200),
        ("api_secret=hush", 200),
        ("secret=hush&api_secret=wrong", 200),
    ],
)
async def test_the_secret(backend: FakeBackend, query: str, status: int) -> None:
    client = Client(backend, HttpSettings(secret="hush"))
    answer = await client.get(f"{INITIAL}&{query}")
    assert answer.status == status
    assert (await client.ask("GET", "/")).status == 200
    assert (await client.ask("GET", "/v1/health")).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_a_401_has_no_cors_headers(backend: FakeBackend, method: str) -> None:
    client = Client(backend, HttpSettings(secret="hush"))
    answer = await client.ask(method, "/v1/shape", INITIAL, body=b'{"secret":"hush"}')
    assert answer.status == 401
    assert answer.headers.keys() == {"electric-server", "x-request-id", "cache-control", "content-length"}
    assert answer.headers["cache-control"] == DEFAULT_CACHE
    if method != "HEAD":
        assert answer.json == {"message": "Unauthorized - Invalid API secret"}
    assert backend.calls == []


@pytest.mark.parametrize(
    ("level", "status", "word"),
    [
        (Level.ACTIVE, 200, "active"),
        (Level.READ_ONLY, 202, "waiting"),
        (Level.STARTING, 202, "starting"),
    ],
)
async def test_health(backend: FakeBackend, level: Level, status: int, word: str) -> None:
    backend.now = level
    answer = await Client(backend).ask("GET", "/v1/health")
    assert (answer.status, answer.json) == (status, {"status": word})
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def test_an_unexpected_exception_is_a_500_without_details(backend: FakeBackend) -> None:
    backend.resolve_error = ZeroDivisionError("hush")
    with structlog.testing.capture_logs() as logged:
        answer = await Client(backend).get(INITIAL)
    assert (answer.status, answer.json) == (500, {"error": "Internal server error"})
    assert "content-type" not in answer.headers
    assert answer.headers["cache-control"] == DEFAULT_CACHE
    assert answer.headers["access-control-allow-origin"] == "*"
    assert [line["log_level"] for line in logged] == ["error"]


class Removed(FakeBackend):
    """A backend whose shape is removed while its client reads."""

    async def read_part(self, handle: str, chunk: int | None, position: int, size: int) -> bytes:
        raise StorageError("the files are gone")


async def test_a_response_that_cannot_be_completed_is_logged_once_and_without_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "failures", LimitedLog(app.log))
    backend = Removed()
    backend.add(ITEMS, HANDLE, chunks=[b"[%s]" % (b"1," * 200_000 + b"1")])
    client = Client(backend, HttpSettings(body_cache_bytes=0))
    with structlog.testing.capture_logs() as logged:
        for _ in range(5):
            slow = client.hold(INITIAL)
            with pytest.raises(ResponseAborted):
                await slow.task
            assert slow.answer.status == 200 and not slow.answer.is_whole
    assert [line["event"] for line in logged] == ["response ended early"]
    assert "exc_info" not in logged[0]


async def test_a_definition_that_cannot_be_verified_now(backend: FakeBackend) -> None:
    backend.resolve_error = SourceError("no connection")
    answer = await Client(backend).get(INITIAL)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json == {
        "message": "Cannot connect to the database to verify the shape. Please try again later."
    }
    backend.resolve_error = OwnerUnavailable("The replicator cannot be reached")
    answer = await Client(backend).get(INITIAL)
    assert (answer.status, answer.json) == (503, {"message": "The replicator cannot be reached"})


async def test_a_database_that_fails_during_a_creation(backend: FakeBackend) -> None:
    backend.remove(HANDLE)
    backend.create_error = SourceError("no connection")
    answer = await Client(backend).get(INITIAL)
    assert answer.json == {"code": "database_unreachable", "error": "Database is unreachable"}
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")


async def test_a_query_that_is_not_utf8(backend: FakeBackend) -> None:
    assert (await Client(backend).get("table=%ff&offset=-1")).status == 400


async def test_websockets_are_closed(backend: FakeBackend) -> None:
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await Client(backend).app({"type": "websocket"}, asyncio.Queue().get, send)
    assert sent == ["websocket.close"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"[]", 400, "Request body must be a JSON object"),
        (b"{", 400, "Invalid JSON in request body"),
        (b'{"table":"' + b"x" * 100 + b'"}', 413, "Request body too large"),
    ],
)
async def test_unreadable_bodies(backend: FakeBackend, body: bytes, status: int, message: str) -> None:
    client = Client(backend, HttpSettings(max_body_bytes=100))
    answer = await client.ask("POST", "/v1/shape", INITIAL, body=body)
    assert (answer.status, answer.json) == (status, {"error": message})
    assert answer.headers["cache-control"] == DEFAULT_CACHE
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def test_health_says_what_the_stream_says(backend: FakeBackend) -> None:
    backend.stream_is = ("lag_bytes=0; heard_at=now", "the storage directory is full")
    answer = await Client(backend).ask("GET", "/v1/health")
    assert answer.headers["pgshapes-replication"] == "lag_bytes=0; heard_at=now"
    assert answer.headers["pgshapes-waits-for"] == "the storage directory is full"
    backend.stream_is = ("", "")
    answer = await Client(backend).ask("GET", "/v1/health")
    assert not [name for name in answer.headers if name.startswith("pgshapes-")]
