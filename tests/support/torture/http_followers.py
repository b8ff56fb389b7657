"""Clients that speak HTTP themselves: long polls, and streams of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
from tests.oracle.ddl.follower import Births, Standing
from tests.support.torture.checked_copy import Message, Misfit
from tests.support.torture.definitions import Watched
from tests.support.torture.follower import PAUSE_S, Follower
from tests.support.torture.judge import Judge

ANSWER_S = 75.0
"""Longer than a creation and a snapshot chunk may take: what takes longer is a request without an answer."""
REFUSED_PAUSE_S = 0.3


def http_client(timeout_s: float | None = None) -> httpx.AsyncClient:
    """A client without certificates and proxies, which take longer to set up than a request."""
    return httpx.AsyncClient(verify=False, trust_env=False, timeout=timeout_s)


class RawFollower(Follower):
    """Long polls, on one connection."""

    kind = "http"

    def __init__(self, url: str, watched: Watched, judge: Judge, births: Births) -> None:
        super().__init__(url, watched, judge, births)
        self._http = http_client(ANSWER_S)

    async def close(self) -> None:
        await self._http.aclose()

    async def _follow(self) -> None:
        while True:
            response = await self._http.get(f"{self._url}/v1/shape", params=self._params())
            await self._receive(response)

    def _params(self, **more: str) -> dict[str, str]:
        copy = self.copy
        params = self.watched.query.parameters() | {"offset": copy.resume} | more
        if copy.handle is not None:
            params["handle"] = copy.handle
        if copy.is_up_to_date:
            params["live"] = "true"
        return params

    async def _receive(self, response: httpx.Response) -> None:
        if response.status_code == 200:
            headers = response.headers
            self.take(headers["electric-handle"], headers["electric-offset"], response.json())
        else:
            await self._fail(response.status_code, response.text)

    async def _fail(self, status: int, text: str) -> None:
        if status == 409:
            has_rows = self.copy.handle is not None
            self.refetch()
            # Without a handle the server has nothing better to say yet.
            await asyncio.sleep(0 if has_rows else REFUSED_PAUSE_S)
        elif status == 503:
            self.stand(Standing.UNAVAILABLE, text)
            await asyncio.sleep(PAUSE_S)
        elif status >= 500:
            raise Misfit(f"status {status}: {text[:300]}")
        else:
            self.refuse(f"{status} {text[:300]}")
            await asyncio.sleep(REFUSED_PAUSE_S)


class SseFollower(RawFollower):
    """Long polls until up to date, then a stream of events."""

    kind = "sse"

    async def _follow(self) -> None:
        while True:
            if self.copy.is_up_to_date:
                await self._stream()
            else:
                response = await self._http.get(f"{self._url}/v1/shape", params=self._params())
                await self._receive(response)

    async def _stream(self) -> None:
        url = f"{self._url}/v1/shape"
        async with self._http.stream("GET", url, params=self._params(live_sse="true")) as response:
            if response.status_code != 200:
                await self._fail(response.status_code, (await response.aread()).decode(errors="replace"))
                return
            self._check_handle(response.headers["electric-handle"])
            self.copy.be(response.headers["electric-handle"])
            # Nothing may come for a while, if the shape has no change.
            self.be_up_to_date()
            await self._take_events(_events(response))

    async def _take_events(self, events: AsyncIterator[Message | None]) -> None:
        """Apply what stands before each up-to-date; the rest is fetched again after the stream has ended."""
        pending: list[Message] = []
        async for message in events:
            self.hear()
            if message is None:
                continue
            pending.append(message)
            if message["headers"].get("control") == "up-to-date":
                self._apply(pending)
                pending = []

    def _apply(self, messages: list[Message]) -> None:
        before = self.copy.messages
        self.copy.take(messages)
        self.count(self.copy.messages - before)
        if self.copy.place > self.copy.offset:
            self.copy.offset, self.copy.resume = self.copy.place, str(self.copy.place)
        self.be_up_to_date()


async def _events(response: httpx.Response) -> AsyncIterator[Message | None]:
    """The messages of a stream; None for a comment."""
    rest = b""
    async for data in response.aiter_bytes():
        # Not by `aiter_lines`, which splits at U+2028 in a value, too.
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                message: dict[str, Any] = json.loads(line[5:])
                yield message
            elif line.startswith(b":"):
                yield None
