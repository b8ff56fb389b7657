"""A Shape API without a database: an ASGI app whose one shape is a Python list.

It implements only what a client needs. The test owns it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

ADDRESS = "http://shapes.test"
SCHEMA = {"id": {"type": "int4", "pk_index": 0, "not_null": True}, "name": {"type": "text"}}


class Planned(NamedTuple):
    """A response that is sent instead of the correct one."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b"{}"


class Pauses:
    """Records the delays of a stream, without waiting."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.delays_s.append(delay_s)


class ShapeServer:
    """One shape: `snapshot` rows, then a log; a live request is held until the log grows or the shape
    rotates."""

    def __init__(self, *, rows: int = 0, chunk_entries: int = 1000, poll_s: float = 20.0) -> None:
        self.incarnation = 1
        self.snapshot = [message("insert", number, name=f"name {number}") for number in range(rows)]
        self.log: list[dict[str, Any]] = []
        self.requests: list[dict[str, str]] = []
        self.planned: deque[Planned] = deque()
        self._chunk_entries = chunk_entries
        self._poll_s = poll_s
        self._changed = asyncio.Event()

    @property
    def handle(self) -> str:
        return f"handle-{self.incarnation}"

    def change(self, operation: str, number: int, **value: str | None) -> None:
        """Append one transaction of one change."""
        self.log.append(message(operation, number, **value))
        self._notify()

    def rotate(self, rows: int = 0) -> None:
        """Replace the shape; its next incarnation has `rows` rows."""
        self.incarnation += 1
        self.snapshot = [message("insert", number, name=f"name {number}") for number in range(rows)]
        self.log = []
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        self.requests.append(query)
        status, headers, body = self.planned.popleft() if self.planned else await self._answer(query)
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, query: dict[str, str]) -> Planned:
        offset = query["offset"]
        if offset != "-1" and query.get("handle") != self.handle:
            return self._must_refetch()
        if offset == "-1":
            return self._page([*self.snapshot, control("snapshot-end")], "0_0", live=False)
        if query.get("live") == "true" and self._after(offset) == len(self.log):
            handle, changed = self.handle, self._changed
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), self._poll_s)
            if handle != self.handle:
                return self._must_refetch()
        return self._log_page(offset, live=query.get("live") == "true")

    def _after(self, offset: str) -> int:
        return 0 if offset.startswith("0_") else int(offset.partition("_")[0])

    def _log_page(self, offset: str, *, live: bool) -> Planned:
        start = self._after(offset)
        page: list[dict[str, Any]] = self.log[start : start + self._chunk_entries]
        end = start + len(page)
        new_offset = f"{end}_0" if end else "0_inf"
        if end == len(self.log):
            page = [*page, control("up-to-date", global_last_seen_lsn=str(end))]
        return self._page(page, new_offset, live=live)

    def _page(self, messages: list[dict[str, Any]], offset: str, *, live: bool) -> Planned:
        headers = {
            "content-type": "application/json",
            "electric-handle": self.handle,
            "electric-offset": offset,
        }
        if live:
            headers["electric-cursor"] = str(1000 + len(self.log))
        else:
            headers["electric-schema"] = json.dumps(SCHEMA)
        if messages and messages[-1]["headers"].get("control") == "up-to-date":
            headers["electric-up-to-date"] = ""
        return Planned(200, headers, json.dumps(messages).encode())

    def _must_refetch(self) -> Planned:
        return Planned(409, {"electric-handle": self.handle}, json.dumps([control("must-refetch")]).encode())


def message(operation: str, number: int, **value: str | None) -> dict[str, Any]:
    """A change of the row `number`; its other columns are `value`."""
    return {
        "key": f'"public"."items"/"{number}"',
        "value": {"id": str(number), **value},
        "headers": {"operation": operation, "relation": ["public", "items"]},
    }


def control(word: str, **headers: str) -> dict[str, Any]:
    """A control message."""
    return {"headers": {"control": word, **headers}}
