"""Does anything grow? Shapes are made and removed, requests answered, the stream reconnected, many times.

    python -m bench.soak
    python -m bench.soak --shapes 5000 --requests 50000 --reconnects 50 --workers 2

At intervals each process is sampled: memory, descriptors, tasks, timers, threads, and its connections to
Postgres. A quantity is flat if the median of the last quarter of a phase's samples is no more than a little
above that of the second quarter; the first quarter fills caches. Exit status 1 if anything grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
from bench.proc import conditions, resident_mb
from bench.sampled_server import samples_root
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.servers.processes import session_members
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

SAMPLES = 24
"""In each phase."""
TOGETHER = 16
ROWS = 200
SAMPLE_S = 30.0
SETTLE_S = 3.0
"""Before a sample: what ends a moment after its request is not counted."""
RECONNECT_S = 60.0
WORKED_S = 1.1
"""A session that lasts so long has worked; after shorter ones the pauses grow up to 10 s."""
MAY_GROW = {"memory": (4.0, 0.04), "descriptors": (4, 0.02), "tasks": (3, 0.02), "timers": (5, 0.05)} | {
    "threads": (2, 0.0),
    "connections": (2, 0.0),
}
"""By how much, at most: so many, and this part."""


@dataclass(frozen=True)
class Sample:
    """What a process holds."""

    label: str
    values: dict[str, float]

    def line(self) -> str:
        """The values in one line."""
        return f"{self.label:12}" + "".join(
            f"{name} {value:8.1f}  " if name == "memory" else f"{name} {value:5.0f}  "
            for name, value in self.values.items()
        )


class Soak:
    """A server under repeated work."""

    def __init__(self, server: Server, sql: psycopg.Connection) -> None:
        self.server = server
        self.sql = sql
        self.failed: list[str] = []

    async def phase(self, name: str, count: int, work: Callable[[int, int], Awaitable[None]]) -> None:
        """Do `work(start, stop)` in pieces with a sample after each; print whether anything grew."""
        history: dict[str, list[Sample]] = {}
        began, bounds = time.monotonic(), [count * place // SAMPLES for place in range(SAMPLES + 1)]
        for start, stop in pairwise(bounds):
            if start == stop:
                continue
            await work(start, stop)
            await asyncio.sleep(SETTLE_S)
            print(f"{name}: {stop} of {count}, {time.monotonic() - began:.0f} s", flush=True)
            for sample in await self.samples():
                history.setdefault(sample.label, []).append(sample)
                print(f"  {sample.line()}", flush=True)
        for label, samples in history.items():
            for quantity, verdict in verdicts(samples):
                text = f"{name}: {quantity} of {label} {verdict}"
                print(text, flush=True)
                if "GROWS" in verdict:
                    self.failed.append(text)

    async def samples(self) -> list[Sample]:
        """One of each process. Raises TimeoutError if one does not answer."""
        process = self.server.process
        assert process is not None
        found = []
        for pid in sorted(session_members(process.pid)):
            is_supervisor = pid == process.pid and len(session_members(process.pid)) > 1
            inside = {"label": "supervisor"} if is_supervisor else await self._ask(pid)
            inside.pop("objects", None)
            values = {"memory": resident_mb(pid), "descriptors": float(_descriptors(pid))}
            values |= {name: float(value) for name, value in inside.items() if name != "label"}
            found.append(Sample(str(inside["label"]), values))
        row = self.sql.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name ILIKE '%%pgshapes%%'"
            " AND datname = current_database()"
        ).fetchone()
        assert row is not None
        return [*found, Sample("postgres", {"connections": float(row[0])})]

    async def _ask(self, pid: int) -> dict[str, Any]:
        path = samples_root(self.server.storage_dir) / f"{pid}.json"
        path.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR2)
        async with asyncio.timeout(SAMPLE_S):
            while not path.exists():
                await asyncio.sleep(0.02)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    # --- work

    async def shapes(self, start: int, stop: int) -> None:
        """Create and remove one shape for each number."""

        async def one(client: Client, number: int) -> None:
            params = {"table": "items", "where": f"id <> {number + 10 * ROWS}"}
            await client.request("GET", params | {"offset": "-1"}, {200})
            await client.request("DELETE", params, {202})

        await self._each(one, start, stop)

    async def requests(self, start: int, stop: int) -> None:
        """Requests for rows, at the end of the log, live ones, and some that are refused."""

        async def one(client: Client, number: int) -> None:
            kind = number % 10
            if kind == 0:
                await client.request("GET", {"table": "items", "offset": f"{number}x"}, {400})
            elif kind == 1:
                await client.request("GET", {"table": "items", "offset": "0_0", "handle": str(number)}, {409})
            elif kind == 2:
                await client.request("GET", {"table": "items", "offset": "now"}, {200})
            else:
                await client.request("GET", {"table": "items", "offset": "-1", "where": "id > 100"}, {200})

        await self._each(one, start, stop)

    async def reconnects(self, start: int, stop: int) -> None:
        """End the walsender, and wait until a later change has come."""
        async with await Client.connect(self.server.port) as client:
            for number in range(start, stop):
                pid = await self._walsender()
                self.sql.execute("SELECT pg_terminate_backend(%s)", (pid,))
                while await self._walsender() == pid:
                    await asyncio.sleep(0.02)
                self.sql.execute("UPDATE items SET n = %s WHERE id = 1", (number,))
                await self._until_told(client, number)
                await asyncio.sleep(WORKED_S)

    async def _walsender(self) -> int:
        async with asyncio.timeout(RECONNECT_S):
            while True:
                row = self.sql.execute(
                    "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND active",
                    (self.server.slot,),
                ).fetchone()
                if row is not None:
                    return int(row[0])
                await asyncio.sleep(0.02)

    async def _until_told(self, client: Client, number: int) -> None:
        body = b'"n":"%d"' % number
        offset, handle, seen = "-1", "", False
        async with asyncio.timeout(RECONNECT_S):
            while not seen:
                params = {"table": "items", "offset": offset, "where": "id = 1"}
                answer = await client.request(
                    "GET", params | ({"handle": handle} if handle else {}), {200, 409, 503}
                )
                seen = body in answer.body
                offset = answer.headers.get("electric-offset", "-1" if answer.status == 409 else offset)
                handle = answer.headers.get("electric-handle", handle) if offset != "-1" else ""
                if not seen:
                    await asyncio.sleep(0.02)

    async def _each(self, act: Callable[[Client, int], Awaitable[None]], start: int, stop: int) -> None:
        numbers = iter(range(start, stop))

        async def work() -> None:
            async with await Client.connect(self.server.port) as client:
                for number in numbers:
                    await act(client, number)

        async with asyncio.TaskGroup() as group:
            for _ in range(TOGETHER):
                group.create_task(work())


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection that costs little; a context manager that closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Client:
        """To the server at this port of 127.0.0.1."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def request(self, method: str, params: dict[str, str], expected: set[int]) -> Answer:
        """The answer. Raises RuntimeError if its status is not an expected one."""
        head = f"{method} /v1/shape?{urlencode(params)} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        self._writer.write(head.encode())
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value for name, colon, value in (line.partition(": ") for line in lines) if colon
        }
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        answer = Answer(int(lines[0].split()[1]), headers, body)
        if answer.status not in expected:
            raise RuntimeError(f"{method} {params}: {answer.status} {body[:300]!r}")
        return answer


def verdicts(samples: list[Sample]) -> Iterator[tuple[str, str]]:
    """For each quantity whether it is flat."""
    quarter = max(len(samples) // 4, 1)
    for name in samples[0].values:
        values = [one.values[name] for one in samples]
        early = statistics.median(values[quarter : 2 * quarter] or values)
        late = statistics.median(values[-quarter:])
        most, part = MAY_GROW[name]
        is_flat = late <= early + most + early * part
        yield name, f"{'flat' if is_flat else 'GROWS'}: {early:.1f}, later {late:.1f}"


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextmanager
def soaked(workers: int, folder: Path) -> Iterator[Soak]:
    """A server with one table."""
    with (
        EmbeddedPostgres(settings=SERVER_SETTINGS) as postgres,
        fresh_database(postgres) as url,
        psycopg.connect(url, autocommit=True) as sql,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY, n int, pad text)")
        sql.execute("INSERT INTO items SELECT i, 0, repeat('x', 50) FROM generate_series(1, %s) i", (ROWS,))
        with running_server(
            url,
            storage_dir=folder / "storage",
            module="bench.sampled_server",
            workers=workers,
            allow_delete=True,
            log_level="error",
        ) as server:
            yield Soak(server, sql)


async def soak(chosen: argparse.Namespace) -> int:
    """Run the phases; returns the exit status."""
    print(conditions())
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"workers {chosen.workers}, log {folder / 'storage.log'}", flush=True)
    with soaked(chosen.workers, folder) as run:
        await run.phase("creations and removals", chosen.shapes, run.shapes)
        await run.phase("requests", chosen.requests, run.requests)
        await run.phase("reconnects", chosen.reconnects, run.reconnects)
    print("flat" if not run.failed else "\n".join(run.failed))
    return 1 if run.failed else 0


def main() -> int:
    """Run with the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=int, default=100_000, help="creations and removals")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--reconnects", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=0, help="HTTP processes; 0: one process for all")
    return asyncio.run(soak(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
