"""Hostile requests against a running server: mutated HTTP and mutated parameters.

`python -m tests.oracle.http_fuzz --requests 1000000 --workers 2` is a long run. No request may be answered
with 500 or a traceback, end a process, or leave memory behind. The seed reproduces the requests.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any, Final
from urllib.parse import quote

import click
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.servers.besieged import SECRET, Besieged, besieged

from pgshapes.embedded.server import EmbeddedPostgres

CONNECTIONS: Final = 64
ANSWER_S: Final = 90.0
HELD_S: Final = 5.0
"""How long an answer is waited for: bodies may be incomplete, and polls are held."""
INCOMPLETE_S: Final = 0.02
ROUND: Final = 100_000

_NAMES: Final = [
    *("table", "offset", "handle", "where", "params", "params[1]", "columns", "columns[]", "replica", "log"),
    *("live", "cursor", "subset__where", "subset__limit", "subset__order_by", "subset__params", "secret"),
    *("queryable_columns", "experimental_compaction", "live_sse", "[", "]", "a[b][c]", "", "\0", "é"),
]
_VALUES: Final = [
    *("log", "public.log", '"log"', "nothing", "pg_class", "", " ", "-1", "now", "0_0", "0_inf", "9" * 30),
    *("true", "false", "1", "0", "null", "{}", "[]", '{"1":"x"}', "full", "default", "changes_only"),
    *("id", "id,value", '"id"', "id,id", ",", '"', "id = 1", "id > $1", "value LIKE '%a%'", "id = ANY($1)"),
    *("id = 1 OR 1 = 1", "((", "'", "--", "/*", "id::text", "value ~ 'a'", "length(value) > 3", "id / 0 = 1"),
    *(
        "id IN (1,2,3)",
        "NOT id = 1",
        "id IS NULL",
        "value || 'x' = 'y'",
        "id BETWEEN 1 AND 2",
        "\0",
        "\ud7ff",
    ),
    *(
        "a" * 70_000,
        "(" * 500,
        "%",
        "%zz",
        "%ff",
        "+",
        "&",
        "=",
        "#",
        "?",
        "id desc",
        "value asc nulls first",
    ),
]
_METHODS: Final = [*["GET"] * 8, *["POST"] * 4, "HEAD", "DELETE", "OPTIONS", "PUT", "get", "G\0T", "CONNECT"]
_PATHS: Final = [
    *["/v1/shape"] * 12,
    "/",
    "/v1/health",
    "/v1//shape/",
    "//",
    "/%2e%2e/v1/shape",
    "*",
    "http://x/v1/shape",
]
_HEADERS: Final = [
    *("host: x", "content-length: 5", "content-length: -1", "content-length: 99999999999999999999"),
    *(
        "transfer-encoding: chunked",
        "transfer-encoding: chunked, chunked",
        "connection: close",
        "connection: upgrade",
    ),
    *(
        "upgrade: websocket",
        "expect: 100-continue",
        "if-none-match: *",
        'if-none-match: "a:b:c"',
        "x: " + "y" * 9_000,
    ),
    *(
        "x-forwarded-for: 1.2.3.4, ::1, nonsense",
        "x-request-id: " + "r" * 300,
        "origin: null",
        ": x",
        "x",
        "x : y",
    ),
    *("content-type: application/json", "accept: */*", "range: bytes=0-1", "cookie: " + "c" * 2_000),
]


class Fuzz:
    """Makes requests."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def request(self) -> bytes:
        """The bytes of one request, or of what is none."""
        chance = self._chance
        raw = self._whole()
        if chance.random() < 0.3:
            raw = self._mutated(bytearray(raw))
        return raw

    def _whole(self) -> bytes:
        chance = self._chance
        method = chance.choice(_METHODS)
        body = self._body() if method == "POST" else b""
        headers = ["host: x", *chance.choices(_HEADERS, k=chance.choice((0, 0, 0, 1, 2)))]
        if body:
            headers.append(f"content-length: {len(body)}")
        start = f"{method} {chance.choice(_PATHS)}?{self._query()} HTTP/1.{chance.choice('1110')}"
        return "\r\n".join([start, *headers, "", ""]).encode("utf-8", "surrogatepass") + body

    def _query(self) -> str:
        chance = self._chance
        pairs = {"table": "log", "offset": "-1", "secret": SECRET}
        for _ in range(chance.choice((0, 1, 1, 2, 3, 6))):
            pairs[chance.choice(_NAMES)] = chance.choice(_VALUES)
        if chance.random() < 0.1:
            pairs["secret"] = chance.choice(_VALUES)
        if pairs.get("live") not in (None, "false") and chance.random() < 0.9:
            del pairs["live"]  # it is held
        return "&".join(f"{quote(name, safe='[]')}={self._quoted(value)}" for name, value in pairs.items())

    def _quoted(self, value: str) -> str:
        safe = value[:60_000].replace(" ", "+").replace("\r", "")
        return quote(value) if self._chance.random() < 0.9 else safe

    def _body(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.1:
            return chance.choice(
                (b"{", b"[]", b"null", b"\xff", b"[" * 20_000, b'{"a":' * 5_000, b"{}", b'"')
            )
        content: dict[str, Any] = {}
        for _ in range(chance.randrange(4)):
            value: Any = chance.choice(_VALUES)
            content[chance.choice(_NAMES)] = chance.choice(
                (value, value, [value] * 3, {"1": value}, 1, None, True)
            )
        return json.dumps(content).encode("utf-8", "surrogatepass")

    def _mutated(self, raw: bytearray) -> bytes:
        chance = self._chance
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            place = chance.randrange(len(raw)) if raw else 0
            kind = chance.randrange(4)
            if kind == 0 and raw:
                raw[place] = chance.randrange(256)
            elif kind == 1:
                raw[place:place] = chance.choice(
                    (b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\n", b"\xff", b"a" * 500)
                )
            elif kind == 2:
                del raw[place : place + chance.choice((1, 2, 30))]
            else:
                raw += raw[place : place + 200]
        return bytes(raw)


async def _send(port: int, raw: bytes) -> int:
    """The status of the answer; 0 if the connection was closed without one, -1 if none came in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        is_head = b"\r\n\r\n" in raw
        line = await asyncio.wait_for(reader.readline(), HELD_S if is_head else INCOMPLETE_S)
        return int(line.split()[1]) if line.startswith(b"HTTP/1.1 ") else 0
    except TimeoutError:
        return -1
    except (ConnectionError, ValueError):
        return 0
    finally:
        writer.close()


async def fuzz(port: int, seed: int, requests: int) -> Counter[int]:
    """How often each status was answered; see `_send` for 0 and -1."""
    made, statuses, left = Fuzz(seed), Counter[int](), requests

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            statuses[await _send(port, made.request())] += 1

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return statuses


def check(scene: Besieged, statuses: Counter[int]) -> None:
    """Raises AssertionError if the server has failed a request."""
    log = scene.server.log_path.read_text(errors="replace")
    assert statuses[500] == 0, f"500 was answered: {scene.server.log_end()}"
    assert "Traceback" not in log, scene.server.log_end()
    assert "process ended" not in log, scene.server.log_end()
    assert scene.health_s() < ANSWER_S


@click.command()
@click.option("--requests", default=1_000_000, help="How many requests.")
@click.option("--seed", default=1, help="The first seed; each round has the next one.")
@click.option("--workers", default=2, help="HTTP processes of the server.")
def main(requests: int, seed: int, workers: int) -> None:
    """Send hostile requests to a server of our own."""
    total: Counter[int] = Counter()
    with (
        EmbeddedPostgres(settings=SERVER_SETTINGS) as postgres,
        fresh_database(postgres) as url,
        besieged(url, workers=workers, rows=50, max_shapes=1_000) as scene,
    ):
        began = time.monotonic()
        for number in range(-(-requests // ROUND)):
            round_ = min(ROUND, requests - number * ROUND)
            total += asyncio.run(fuzz(scene.server.port, seed + number, round_))
            check(scene, total)
            done = sum(total.values())
            shown = ", ".join(f"{status}: {count:,}" for status, count in sorted(total.items()))
            print(f"{done:,} requests, {done / (time.monotonic() - began):.0f}/s, {shown}", flush=True)
            print(f"  memory of all processes {scene.memory_mb():.0f} MB", flush=True)


if __name__ == "__main__":
    main()
