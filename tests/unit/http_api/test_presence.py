"""Which headers each response of the application has."""

from __future__ import annotations

import pytest
from tests.support.seams.http_fakes import CHUNK, ITEMS, SCHEMA, Answer, Client, FakeBackend, FakeSubsets

from pgshapes.errors import CreationFailed, NotNow
from pgshapes.http_api.settings import HttpSettings

HANDLE = "17-4"
ELECTRIC = {
    "electric-handle",
    "electric-offset",
    "electric-schema",
    "electric-cursor",
    "electric-up-to-date",
    "electric-has-data",
    "electric-snapshot",
    "etag",
    "electric-internal-known-error",
    "retry-after",
}
QUICK = HttpSettings(long_poll_timeout_ms=20)


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend()
    backend.add(ITEMS, HANDLE)
    return backend


def present(answer: Answer) -> set[str]:
    return ELECTRIC & answer.headers.keys()


ALWAYS = {"electric-handle", "electric-offset", "electric-has-data", "etag"}


async def test_initial(backend: FakeBackend) -> None:
    answer = await Client(backend).get("table=items&offset=-1")
    assert (answer.status, answer.body) == (200, CHUNK)
    assert present(answer) == ALWAYS | {"electric-schema"}
    assert answer.headers["electric-offset"] == "0_0"
    assert answer.headers["electric-handle"] == HANDLE
    assert answer.headers["electric-schema"] == SCHEMA.decode()
    assert answer.headers["electric-has-data"] == "true"
    assert answer.headers["etag"] == '"17-4:-1:0_0"'
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["content-length"] == str(len(CHUNK))
    assert answer.headers["cache-control"].startswith("public, max-age=604800")


async def test_catch_up_to_the_end(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0, 2)
    backend.lsn = 60
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_0")
    assert present(answer) == ALWAYS | {"electric-schema", "electric-up-to-date"}
    assert answer.headers["electric-up-to-date"] == ""
    assert answer.headers["electric-offset"] == "50_2"
    assert answer.headers["cache-control"] == "public, max-age=60, stale-while-revalidate=300"
    assert [item.get("key") for item in answer.json] == ["k", "k", None]
    assert answer.json[-1]["headers"] == {"control": "up-to-date", "global_last_seen_lsn": "60"}


async def test_catch_up_to_the_end_of_a_chunk(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0, 2, is_chunk_end=True)
    backend.append(HANDLE, 60, 0)
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_inf")
    assert present(answer) == ALWAYS | {"electric-schema"}
    assert answer.headers["electric-offset"] == "50_2"
    assert answer.controls == []


async def test_the_end_of_a_chunk_may_be_the_end_of_the_log(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0, 2, is_chunk_end=True)
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_inf")
    assert "electric-up-to-date" in answer.headers
    assert answer.controls == ["up-to-date"]


async def test_nothing_new(backend: FakeBackend) -> None:
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_inf")
    assert present(answer) == ALWAYS | {"electric-schema", "electric-up-to-date"}
    assert answer.headers["electric-has-data"] == "true"
    assert answer.headers["electric-offset"] == "0_inf"
    assert answer.controls == ["up-to-date"]


async def test_live_with_data(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0)
    backend.lsn = 99
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_inf&live=true")
    assert present(answer) == ALWAYS | {"electric-cursor", "electric-up-to-date"}
    assert answer.headers["electric-has-data"] == "true"
    assert answer.headers["cache-control"] == "public, max-age=5, stale-while-revalidate=5"
    assert answer.json[-1]["headers"]["global_last_seen_lsn"] == "50"


async def test_live_up_to_the_end_of_a_chunk(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0, is_chunk_end=True)
    backend.append(HANDLE, 60, 0)
    answer = await Client(backend).get(f"table=items&handle={HANDLE}&offset=0_inf&live=true")
    assert present(answer) == ALWAYS | {"electric-cursor"}
    assert (answer.headers["electric-offset"], answer.controls) == ("50_0", [])


async def test_live_without_data(backend: FakeBackend) -> None:
    backend.lsn = 99
    query = f"table=items&handle={HANDLE}&offset=0_inf&live=true"
    answer = await Client(backend, QUICK).get(query)
    assert present(answer) == ALWAYS | {"electric-cursor", "electric-up-to-date"}
    assert answer.headers["electric-has-data"] == "false"
    assert answer.headers["electric-offset"] == "0_inf"
    assert answer.headers["etag"].startswith('"17-4:0_inf:0_inf:')
    assert answer.json == [{"headers": {"control": "up-to-date", "global_last_seen_lsn": "99"}}]
    again = await Client(backend, QUICK).get(query)
    assert again.headers["etag"] != answer.headers["etag"]


async def test_now(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0)
    backend.lsn = 70
    answer = await Client(backend).get("table=items&offset=now")
    assert present(answer) == ALWAYS | {"electric-schema", "electric-up-to-date"}
    assert answer.headers["electric-has-data"] == "false"
    assert answer.headers["electric-offset"] == "50_0"
    assert answer.headers["cache-control"] == "public, max-age=60, stale-while-revalidate=300"
    assert answer.json == [{"headers": {"control": "up-to-date", "global_last_seen_lsn": "70"}}]


async def test_a_lagging_process_returns_its_own_end_of_the_log(backend: FakeBackend) -> None:
    backend.append(HANDLE, 50, 0)
    backend.lsn = 0
    answer = await Client(backend).get("table=items&offset=now")
    assert answer.json[-1]["headers"]["global_last_seen_lsn"] == "50"


@pytest.mark.parametrize(
    ("query", "offset"),
    [
        ("offset=-1", "0_0"),
        ("offset=now", "50_0"),
        (f"handle={HANDLE}&offset=0_inf", "0_inf"),
        (f"handle={HANDLE}&offset=50_0", "50_0"),
    ],
)
async def test_subset(backend: FakeBackend, query: str, offset: str) -> None:
    backend.append(HANDLE, 50, 0)
    client = Client(backend, subsets=FakeSubsets())
    answer = await client.get(f"table=items&{query}&subset__limit=1&subset__order_by=id")
    assert present(answer) == {"electric-handle", "electric-offset", "electric-schema", "electric-snapshot"}
    assert answer.headers["electric-snapshot"] == "true"
    assert answer.headers["electric-offset"] == offset
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.json == {"metadata": {}, "data": []}


@pytest.mark.parametrize(
    ("query", "tag"),
    [
        ("table=items&offset=-1", '"17-4:-1:0_0"'),
        (f"table=items&handle={HANDLE}&offset=0_inf", '"17-4:0_inf:50_0"'),
    ],
)
async def test_not_modified(backend: FakeBackend, query: str, tag: str) -> None:
    backend.append(HANDLE, 50, 0)
    client = Client(backend)
    full = await client.get(query)
    assert full.headers["etag"] == tag
    answer = await client.get(query, headers={"If-None-Match": f'"other", {tag}'})
    assert (answer.status, answer.body) == (304, b"")
    assert present(answer) == present(full) - {"electric-schema"}
    assert answer.headers["cache-control"] == full.headers["cache-control"]
    assert "content-type" not in answer.headers
    assert "content-length" not in answer.headers
    again = await client.get(query, headers={"If-None-Match": f"W/{tag}"})
    assert again.status == 200


async def test_a_304_to_a_live_request_is_not_held(backend: FakeBackend) -> None:
    query = f"table=items&handle={HANDLE}&offset=0_inf&live=true"
    answer = await Client(backend).get(query, headers={"If-None-Match": '"17-4:0_inf:0_inf"'})
    assert answer.status == 304
    assert present(answer) == ALWAYS | {"electric-cursor", "electric-up-to-date"}


async def test_must_refetch_with_and_without_a_handle(backend: FakeBackend) -> None:
    client = Client(backend)
    known = await client.get("table=items&handle=other&offset=0_0")
    assert known.status == 409
    assert present(known) == {"electric-handle", "etag"}
    assert (known.headers["electric-handle"], known.headers["etag"]) == (HANDLE, '"17-4::"')
    assert known.headers["cache-control"] == "public, max-age=60, must-revalidate"
    assert known.json == [{"headers": {"control": "must-refetch"}}]
    beyond = await Client(backend, QUICK).get(f"table=items&handle={HANDLE}&offset=9_0")
    assert beyond.status == 409
    assert present(beyond) == set()
    assert beyond.headers["cache-control"] == "public, max-age=1, must-revalidate"
    assert beyond.json == [{"headers": {"control": "must-refetch"}}]


async def test_errors(backend: FakeBackend) -> None:
    client = Client(backend)
    bad = await client.get("table=items")
    assert (bad.status, present(bad)) == (400, set())
    assert bad.headers["cache-control"] == "no-store"
    assert bad.headers["surrogate-control"] == "no-store"
    backend.resolve_error = NotNow("later", retry_after_s=3)
    later = await client.get("table=items&offset=-1")
    assert (later.status, present(later)) == (503, {"retry-after"})
    backend.resolve_error = None
    backend.remove(HANDLE)
    backend.create_error = CreationFailed("locked", retry_after_s=10, known=True)
    failed = await client.get("table=items&offset=-1")
    assert (failed.status, present(failed)) == (503, {"retry-after", "electric-internal-known-error"})


async def test_posts_are_answered_like_gets_but_not_cached(backend: FakeBackend) -> None:
    client = Client(backend)
    full = await client.ask("POST", "/v1/shape", "table=items&offset=-1", body=b"{}")
    assert (full.status, full.body) == (200, CHUNK)
    assert present(full) == ALWAYS | {"electric-schema"}
    bad = await client.ask("POST", "/v1/shape", "table=items", body=b"")
    moved = await client.ask("POST", "/v1/shape", "table=items&handle=x&offset=0_0", body=b"")
    assert (bad.status, moved.status) == (400, 409)
    for answer in (full, bad, moved):
        assert answer.headers["cache-control"] == "no-cache"
        assert "surrogate-control" not in answer.headers
