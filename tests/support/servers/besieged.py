"""A server with shapes and a long log, for hostile clients, and what they may not change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
from tests.support.clients.hostile import Target
from tests.support.servers.processes import session_members
from tests.support.servers.servers import Server, running_server

SECRET: Final = "ibex-gazelle"
SHAPES: Final = 10
ROWS: Final = 950
ROW_BYTES: Final = 10_000
LIMIT_S: Final = 60.0


class Besieged:
    """The server; `handles` are those that its shapes had before."""

    def __init__(self, server: Server, handles: list[str], offsets: tuple[str, ...]) -> None:
        self.server = server
        self.handles = handles
        self.target = Target(server.port, SECRET, f"table=log&handle={handles[0]}", offsets)

    def health_s(self) -> float:
        """Seconds that `/v1/health` takes on a new connection; `LIMIT_S` if it does not answer 200."""
        began = time.monotonic()
        try:
            answer = httpx.get(f"{self.server.url}/v1/health", timeout=LIMIT_S)
        except httpx.TransportError:
            return LIMIT_S
        return time.monotonic() - began if answer.status_code == 200 else LIMIT_S

    def memory_mb(self) -> float:
        """The resident size of all processes of the server, in MB."""
        assert self.server.process is not None
        return sum(map(_resident_mb, session_members(self.server.process.pid)))

    def lost(self) -> int:
        """How many shapes have another handle than before."""
        return sum(_handle(self.server, number) != handle for number, handle in enumerate(self.handles))

    def read_logs(self) -> None:
        """Read the long log from each offset, as ordinary clients do; the caches are full afterwards."""
        for offset in self.target.offsets:
            path = f"/v1/shape?{self.target.log_query}&offset={offset}&secret={SECRET}"
            httpx.get(self.server.url + path, timeout=LIMIT_S).raise_for_status()


@contextmanager
def besieged(
    database_url: str, *, offsets: int = 40, rows: int = ROWS, **settings: Any
) -> Iterator[Besieged]:
    """An active server with `SHAPES` shapes on a table and a log of `rows` rows."""
    with (
        psycopg.connect(database_url, autocommit=True) as sql,
        running_server(database_url, secret=SECRET, **settings) as server,
    ):
        sql.execute("CREATE TABLE log (id int PRIMARY KEY, value text)")
        handles = [_handle(server, number) for number in range(SHAPES)]
        fill = "INSERT INTO log SELECT i, repeat('x', %s) FROM generate_series(1, %s) i"
        sql.execute(fill, (ROW_BYTES, rows))
        yield Besieged(server, handles, _offsets(server, handles[0], offsets))


def _query(number: int) -> str:
    return "table=log" if not number else f"table=log&where=id%20%3E%20{-number}"


def _handle(server: Server, number: int) -> str:
    deadline = time.monotonic() + LIMIT_S
    while True:
        path = f"/v1/shape?{_query(number)}&offset=-1&secret={SECRET}"
        answer = httpx.get(server.url + path, timeout=LIMIT_S)
        if answer.status_code != 503 or time.monotonic() > deadline:
            return answer.raise_for_status().headers["electric-handle"]
        time.sleep(0.2)


def _offsets(server: Server, handle: str, number: int) -> tuple[str, ...]:
    """Offsets of the first changes in the log, once it is there."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        path = f"/v1/shape?table=log&handle={handle}&offset=0_inf&secret={SECRET}"
        end = httpx.get(server.url + path, timeout=LIMIT_S).raise_for_status().headers["electric-offset"]
        if not end.startswith("0_"):
            return tuple(f"{end.partition('_')[0]}_{2 * each}" for each in range(number))
        time.sleep(0.05)
    raise TimeoutError("the log does not arrive")


def _resident_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)
