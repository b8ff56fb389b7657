"""Many HTTP clients in one process, one connection each.

Run as `python -m tests.support.clients.herd_client HOST PORT`. Reads commands from standard input, one
JSON object per line, and answers each with one line. `open` connects for each path, `send` sends the requests
of all open connections at once, `leave` closes the first waiting connections, `collect` returns the answers
once all have arrived or the timeout has passed.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
import zlib
from typing import Any

import uvloop


class Request(asyncio.Protocol):
    """One connection, one request."""

    def __init__(self, path: str, host: str) -> None:
        self.head = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
        self.path = path
        self.done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.sent_at = 0.0
        self.transport: Any = None
        self._head = b""
        self._length = -1
        self._size = 0
        self._crc = 0
        self._answer: dict[str, Any] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self) -> None:
        self.sent_at = time.monotonic()
        self.transport.write(self.head)

    def data_received(self, data: bytes) -> None:
        if self._length < 0:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._read_head(head.decode("latin-1"))
        self._size += len(data)
        self._crc = zlib.crc32(data, self._crc)
        if self._answer["status"] != 200:
            self._answer["text"] = self._answer.get("text", "") + data.decode(errors="replace")
        if self._size >= self._length and not self.done.done():
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result({"status": 0, "path": self.path, "error": repr(error)})

    def _read_head(self, head: str) -> None:
        status, *lines = head.split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        self._length = int(fields.get("content-length", 0))
        self._answer = {
            "status": int(status.split(" ")[1]),
            "path": self.path,
            "handle": fields.get("electric-handle"),
            "retry_after": int(fields.get("retry-after", -1)),
        }

    def _finish(self) -> None:
        after_s = time.monotonic() - self.sent_at
        self._answer |= {"after_s": after_s, "size": self._size, "crc": self._crc}
        self.done.set_result(self._answer)
        self.transport.abort()


class Clients:
    """All connections of this process."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[Request] = []
        self._waiting: list[Request] = []

    async def open(self, paths: list[str]) -> int:
        loop = asyncio.get_running_loop()
        for start in range(0, len(paths), 200):
            made = await asyncio.gather(
                *(
                    loop.create_connection(
                        functools.partial(Request, path, self._host), self._host, self._port
                    )
                    for path in paths[start : start + 200]
                )
            )
            self._idle += [request for _, request in made]
        return len(self._idle)

    async def send(self, _: Any) -> int:
        self._waiting += self._idle
        for request in self._idle:
            request.send()
        self._idle = []
        return len(self._waiting)

    async def leave(self, count: int | None) -> int:
        going, self._waiting = self._waiting[:count], self._waiting[len(self._waiting[:count]) :]
        for request in going:
            request.transport.abort()
        await asyncio.wait([request.done for request in going])
        return len(going)

    async def collect(self, timeout_s: float) -> list[dict[str, Any]]:
        waiting, self._waiting = self._waiting, []
        if waiting:
            await asyncio.wait([request.done for request in waiting], timeout=timeout_s)
        late = {"status": -1, "error": "no answer"}
        return [request.done.result() if request.done.done() else late for request in waiting]


async def main(host: str, port: int) -> None:
    """Run commands until the input ends."""
    clients = Clients(host, port)
    while line := await asyncio.to_thread(sys.stdin.readline):
        ((verb, argument),) = json.loads(line).items()
        print(json.dumps(await getattr(clients, verb)(argument)), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
