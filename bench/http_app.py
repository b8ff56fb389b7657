"""What one request costs in the ASGI application alone: no socket, no server, no Postgres.

    python bench/http_app.py [requests]

The ports are in-memory fakes that answer at once, so the number is what `http_api` and `gates` add to
the server's own cost per request. Prints microseconds per request for each kind; `live` is the wake-up of
one held request out of many on the same shape.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.seams.http_fakes import ITEMS, FakeBackend

from pgshapes.gates.admission import AdmissionControl
from pgshapes.http_api.app import AsgiApp, make_app
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.shape import RawShape, ResolvedShape

HANDLE = "285714285714285714285714285714285714285"
ROW = (
    b'{"key":"\\"public\\".\\"items\\"/\\"1\\"","value":{"id":"1","title":"x"},'
    b'"headers":{"operation":"insert","relation":["public","items"]}}'
)
CHUNK = b"[" + b",".join([ROW] * 10) + b"]"
REQUEST_HEADERS = [
    (b"host", b"localhost:3000"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"user-agent", b"bench"),
]
KINDS = {
    "initial chunk, cached": "table=items&offset=-1",
    "catch-up at the end": f"table=items&handle={HANDLE}&offset=0_inf&log=full",
    "catch-up with data": f"table=items&handle={HANDLE}&offset=50_0&log=full",
    "refused parameters": "table=items",
}


class QuickBackend(FakeBackend):
    """Caches definitions, as the shape cache does."""

    def __init__(self) -> None:
        super().__init__()
        self._resolved: dict[RawShape, ResolvedShape] = {}

    async def resolve(self, raw: RawShape) -> ResolvedShape:
        known = self._resolved.get(raw)
        if known is None:
            known = self._resolved[raw] = await super().resolve(raw)
        return known


def make_backend() -> FakeBackend:
    backend = QuickBackend()
    backend.add(ITEMS, HANDLE, chunks=[CHUNK])
    return backend


def scope_of(query: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/v1/shape",
        "root_path": "",
        "query_string": query.encode(),
        "headers": REQUEST_HEADERS,
    }


async def _never() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def _drop(_: MutableMapping[str, Any]) -> None:
    return None


async def one_after_another(app: AsgiApp, query: str, requests: int) -> float:
    """Microseconds of CPU per request."""
    scope = scope_of(query)
    await app(scope, _never, _drop)
    began = time.process_time()
    for _ in range(requests):
        await app(scope, _never, _drop)
    return (time.process_time() - began) / requests * 1e6


async def held(backend: FakeBackend, app: AsgiApp, waiters: int) -> tuple[float, float]:
    """Microseconds of CPU per request to park it, and to answer it."""
    scope = scope_of(f"table=items&handle={HANDLE}&offset=50_2&live=true")
    began = time.process_time()
    tasks = [asyncio.create_task(_run(app, scope)) for _ in range(waiters)]
    for _ in range(5):
        await asyncio.sleep(0)
    parked = time.process_time()
    backend.append(HANDLE, 60, 0)
    await asyncio.gather(*tasks)
    done = time.process_time()
    return (parked - began) / waiters * 1e6, (done - parked) / waiters * 1e6


def _run(app: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> Any:
    return app(scope, _never, _drop)


async def main(requests: int) -> None:
    backend = make_backend()
    admission = AdmissionControl(existing_limit=1_000_000)
    app = make_app(backend, backend, backend, admission, HttpSettings(), stopping=asyncio.Event())
    backend.append(HANDLE, 50, 0, 2)
    for name, query in KINDS.items():
        print(f"{name:24} {await one_after_another(app, query, requests):6.1f} µs")
    parked_us, answered_us = await held(backend, app, min(requests, 10_000))
    print(f"{'live, to park':24} {parked_us:6.1f} µs")
    print(f"{'live, to answer':24} {answered_us:6.1f} µs")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
