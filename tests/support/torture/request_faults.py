"""What clients do to a server: new shapes by the hundred, clauses that are hard to evaluate, and
hostile bytes.

None of them is followed: what is checked is that nobody else notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from random import Random
from typing import Any

import httpx
from tests.support.torture.faults import fault
from tests.support.torture.http_followers import http_client
from tests.support.torture.world import World

TOGETHER = 30
REQUEST_S = 40.0
HOSTILE = 16
"""Connections at a time."""

POISON: Sequence[dict[str, str]] = (
    {"table": "things", "where": "j IS NULL"},
    {"table": "things", "where": "j IS NOT NULL"},
    {"table": "things", "where": "tags IS NULL"},
    {"table": "things", "where": "(j->'a') IS NULL"},
    {"table": "things", "where": "j = '{\"k\": 1}'"},
    {"table": "things", "where": "j @> '{\"k\": 1}' AND j ? 'k'"},
    {"table": "things", "where": "tags = '{red}' OR tags <> ALL (ARRAY['{red}'])"},
    {"table": "things", "where": "price = 'NaN' OR 1 / (price - price) > 0"},
    {"table": "things", "where": "note LIKE '%" + "_" * 500 + "b%'"},
    {"table": "things", "where": "note::int > 0"},
    {"table": "items", "where": "id / 0 = 1"},
    {"table": "items", "where": "10 / n = 1"},
    {"table": "items", "where": "2147483647 + n > 0"},
    {"table": "events", "where": "payload IS NULL"},
    {"table": "events", "where": "payload->'k' IS NOT NULL AND (payload->>'k')::int = 1"},
    {"table": "docs", "where": "'sad' = ANY (ARRAY['ok', mood])"},
    {"table": "docs", "where": "born - '4713-01-01 BC' > 5"},
    {"table": "docs", "where": "at + '1 month' > '2020-01-01'"},
    {"table": "docs", "where": "score = 'NaN' OR ref IS NULL"},
)
DEEP = "'" + '{"a":' * 3000 + "1" + "}" * 3000 + "'"
POISONED_ROWS: Sequence[str] = (
    "INSERT INTO things (code, j, tags, note) VALUES ('poison', '{\"k\": {}}', '{{a,b},{c,d}}', 'x')",
    f"UPDATE things SET j = {DEEP} WHERE code = 'poison'",
    "UPDATE things SET j = '[{}]', tags = '[0:1]={a,b}', note = repeat('_', 20000) WHERE code = 'poison'",
    "UPDATE things SET j = '1e1000', price = 'NaN', note = '12' WHERE code = 'poison'",
    "INSERT INTO items (id, tenant, n) VALUES (5000, 1, 2147483647), (5001, 1, -2147483648), (5002, 2, 0)",
    "INSERT INTO docs VALUES (5000, 'sad', '-infinity', 'infinity', 'NaN', NULL)",
    "DELETE FROM things WHERE code = 'poison'",
    "DELETE FROM items WHERE id >= 5000",
    "DELETE FROM docs WHERE id >= 5000",
)


@fault("requests", weight=1.5)
async def new_shapes(world: World, chance: Random) -> None:
    """Up to 200 definitions nobody had, some of whose clients leave; then they are removed."""
    base, count = chance.getrandbits(24), chance.randint(50, 200)
    tables = [chance.choice((("items", "id"), ("wide", "id"), ("events", "day"))) for _ in range(count)]
    definitions = [
        {"table": table, "where": f"{column} <> {base + place}"}
        for place, (table, column) in enumerate(tables)
    ]
    patience_s = [chance.choice((REQUEST_S, REQUEST_S, 0.05, 0.5)) for _ in definitions]
    await _create(world, definitions, patience_s)
    await _remove(world, definitions)


@fault("requests", weight=1.5)
async def poison(world: World, chance: Random) -> None:
    """Clauses that are hard to evaluate, and rows that make them fail; no other shape may notice."""
    definitions = chance.sample(POISON, 6)
    await _create(world, definitions, [REQUEST_S] * len(definitions))
    for row in POISONED_ROWS:
        await world.try_once(row)
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    await _remove(world, definitions)


@fault("requests")
async def hostile_bytes(world: World, chance: Random) -> None:
    """Connections that send too much, too little, or nonsense, for some seconds."""
    for_s = chance.uniform(1, 4)
    payloads = [chance.choice(_PAYLOADS) for _ in range(HOSTILE)]
    async with asyncio.TaskGroup() as group:
        for payload in payloads:
            group.create_task(_attack(world.server.port, payload, for_s))


_HEAD = b"GET /v1/shape?table=items&offset=-1 HTTP/1.1\r\nhost: a\r\n"
_PAYLOADS: Sequence[bytes] = (
    b"",
    _HEAD,
    _HEAD + b"x: " + b"a" * 200_000,
    _HEAD + b"".join(b"x%d: a\r\n" % number for number in range(5000)),
    b"GET /" + b"a" * 300_000,
    b"GET /v1/health HTTP/1.1\r\nhost: a\r\n\r\n" * 2000,
    (_HEAD + b"\r\n") * 100,
    b"\x00\xff\x16\x03\x01" * 1000,
    b"POST /v1/shape?table=items&offset=-1 HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{",
    b"POST /v1/shape?table=items HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n" + b"[" * 200_000,
    b"GET /v1/shape?table=%ff&offset=%00&where=" + b"(" * 5000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /v1/shape?table=items&offset=99999999999999999999_0&handle=1 HTTP/1.1\r\nhost: a\r\n\r\n",
)


async def _attack(port: int, payload: bytes, for_s: float) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(for_s):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(payload)
                await writer.drain()
                await asyncio.sleep(for_s)
            finally:
                writer.transport.abort()


async def _create(world: World, definitions: Sequence[dict[str, str]], patience_s: Sequence[float]) -> None:
    """Ask for each once; what is answered is checked, whether it is answered is not."""
    gate = asyncio.Semaphore(TOGETHER)

    async def create(params: dict[str, str], limit_s: float) -> None:
        async with gate:
            answer = await _answered(http, "GET", world, params | {"offset": "-1"}, limit_s)
        if answer is not None and answer.status_code not in (200, 400, 409, 503):
            text = f"{json.dumps(params)}: {answer.text[:300]}"
            world.judge.violate(f"status {answer.status_code}", "a new shape", text)

    async with http_client() as http, asyncio.TaskGroup() as group:
        for params, limit_s in zip(definitions, patience_s, strict=True):
            group.create_task(create(params, limit_s))


async def _remove(world: World, definitions: Sequence[dict[str, str]]) -> None:
    gate = asyncio.Semaphore(TOGETHER)

    async def remove(params: dict[str, str]) -> None:
        async with gate:
            await _answered(http, "DELETE", world, params, REQUEST_S)

    async with http_client() as http, asyncio.TaskGroup() as group:
        for params in definitions:
            group.create_task(remove(params))


async def _answered(
    http: httpx.AsyncClient, method: str, world: World, params: dict[str, Any], limit_s: float
) -> httpx.Response | None:
    """The answer; None if there was none in time, or the server is away."""
    with contextlib.suppress(httpx.HTTPError):
        return await http.request(method, world.server.shape_url, params=params, timeout=limit_s)
    return None
