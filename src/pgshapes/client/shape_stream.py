"""The messages of a shape over HTTP, as an asynchronous iterator, and how long it waits before it retries.

Not here: the protocol (`protocol.py`), the current rows (`shape.py`). A stream may be used by one task at a
time. It owns its position and, unless it was given an HTTP client, its connections.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from types import TracebackType
from typing import Final, Self

import httpx

from pgshapes.client.messages import Batch, Message, Position
from pgshapes.client.protocol import Request, Response, Retry, ShapeProtocol
from pgshapes.client.query import Query
from pgshapes.errors import ConfigError, NotNow

LONGEST_RETRY_AFTER_S: Final = 3600.0
"""Longer delays are reduced to this one."""


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter, so that clients do not retry at the same time."""

    initial_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 32.0
    chance: Callable[[], float] = random.random
    """Returns a random number in [0, 1)."""

    def delay_s(self, attempt: int, at_least_s: float = 0.0) -> float:
        """Seconds to wait after `attempt` consecutive failures (1 or more)."""
        # The exponent is bounded: the float would overflow after days of failures.
        bound = min(self.cap_s, self.initial_s * self.factor ** min(attempt - 1, 64))
        return max(at_least_s, bound * self.chance())


def parse_retry_after_s(text: str | None, now: float) -> float:
    """The delay in `retry-after`, a number or an HTTP date; 0 if it is missing or invalid.

    `now` is Unix time in seconds.
    """
    if text is None:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text, now)
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else 0.0


def _seconds_until(date: str, now: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return 0.0


# A server holds a live request for 20 s; the TypeScript client times out after 45 s.
LIVE_READ_TIMEOUT_S: Final = 45.0
# A first request may wait for the shape to be created and for the first row of its snapshot.
READ_TIMEOUT_S: Final = 120.0
CONNECT_TIMEOUT_S: Final = 10.0

START: Final = Position()


@dataclass(frozen=True)
class StreamOptions:
    """Options of a stream; the defaults suit a program that follows a shape indefinitely."""

    is_live: bool = True
    """Follow the shape indefinitely; otherwise end at the first up-to-date."""
    parses_values: bool = True
    """Convert numbers, booleans, JSON and arrays to Python values; otherwise keep the text of Postgres."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request."""
    backoff: Backoff = field(default_factory=Backoff)
    max_retries: int | None = None
    """Raise NotNow after more consecutive failures than this; None retries indefinitely."""
    on_retry: Callable[[str, float], None] = lambda reason, delay_s: None
    """Called before each retry with the reason and the delay in seconds."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = time.time
    """Returns Unix time in seconds, for dates in `retry-after`."""


def open_http() -> httpx.AsyncClient:
    """An HTTP client configured as a stream needs it; close it with `aclose()`.

    Streams may share a client, but many should not: httpx examines every connection of a pool at each
    request, so 200 streams on one pool need four times the CPU of 200 streams with a pool each (measured).
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    # A waiting stream occupies a connection, so the number of connections is not limited.
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=None)
    return httpx.AsyncClient(limits=limits, timeout=timeout, verify=_tls_context(), follow_redirects=True)


@cache
def _tls_context() -> ssl.SSLContext:
    # Loading the certificates takes tens of milliseconds, so do it once per process.
    return ssl.create_default_context()


def shape_url(url: str) -> httpx.URL:
    """The URL of the API; `/v1/shape` is added if it has no path. Raises ConfigError."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"not a URL: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError("not a server URL: it must look like http://localhost:3000")
    return parsed if parsed.path.strip("/") else parsed.copy_with(path="/v1/shape")


class ShapeStream:
    """The messages of a shape, from `start` on, in commit order.

    Iterating raises RequestError (the server rejects the request), WireError (the response is invalid) and
    NotNow (only with `max_retries`); after all other errors the request is retried. Without `http` the stream
    opens its own connections; use it with `async with`, or call `aclose()`. Cancelling a wait for the next
    message loses no message.
    """

    def __init__(
        self,
        url: str,
        query: Query | str,
        *,
        start: Position = START,
        options: StreamOptions = StreamOptions(),
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._url = shape_url(url)
        self._options = options
        self._http = http or open_http()
        self._owns_http = http is None
        self._protocol = ShapeProtocol(
            query if isinstance(query, Query) else Query(query),
            start,
            lambda: secrets.token_hex(8),
            parses_values=options.parses_values,
        )
        self._batch = Batch([], start, is_up_to_date=False)
        self._returned = 0
        self._position = start
        self._is_up_to_date = False

    @property
    def position(self) -> Position:
        """The position after the last returned batch, from which a later stream can continue."""
        return self._position

    @property
    def is_up_to_date(self) -> bool:
        """Whether all messages up to an up-to-date have been returned."""
        return self._is_up_to_date

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while self._returned == len(self._batch.messages):
            self._batch, self._returned = await self._fetch(), 0
            if not self._batch.messages:
                self._update_position()
        self._returned += 1
        if self._returned == len(self._batch.messages):
            self._update_position()
        return self._batch.messages[self._returned - 1]

    async def next_batch(self) -> Batch:
        """The messages of the next response. Raises StopAsyncIteration at the end of the stream."""
        if self._returned == len(self._batch.messages):
            self._batch, self._returned = await self._fetch(), 0
        batch = self._batch._replace(messages=self._batch.messages[self._returned :])
        self._returned = len(self._batch.messages)
        self._update_position()
        return batch

    def _update_position(self) -> None:
        self._position, self._is_up_to_date = self._batch.position, self._batch.is_up_to_date

    async def _fetch(self) -> Batch:
        if self._protocol.is_up_to_date and not self._options.is_live:
            raise StopAsyncIteration
        failures = 0
        while True:
            outcome = await self._send(self._protocol.request())
            if isinstance(outcome, Batch):
                return outcome
            failures += 1
            await self._pause(outcome, failures)

    async def _send(self, request: Request) -> Batch | Retry:
        read_timeout_s = LIVE_READ_TIMEOUT_S if request.is_live else READ_TIMEOUT_S
        parameters = sorted({**self._url.params, **dict(request.parameters)}.items())
        try:
            response = await self._http.get(
                self._url.copy_with(params=parameters),
                headers=dict(self._options.headers),
                timeout=httpx.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
            )
        except httpx.RequestError as error:
            return Retry(f"{type(error).__name__}: {error}".rstrip(": "))
        return self._protocol.receive(Response(response.status_code, response.headers, response.content))

    async def _pause(self, retry: Retry, failures: int) -> None:
        limit = self._options.max_retries
        if limit is not None and failures > limit:
            raise NotNow(f"no response from {self._url.host}: {retry.reason}")
        at_least_s = parse_retry_after_s(retry.retry_after, self._options.now())
        delay_s = self._options.backoff.delay_s(failures, at_least_s)
        self._options.on_retry(retry.reason, delay_s)
        await self._options.sleep(delay_s)

    async def aclose(self) -> None:
        """Close the connections that the stream has opened."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
