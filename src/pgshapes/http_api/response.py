"""A response, and the exchange over which it is sent.

The headers are in `headers`; `serve` and `reads` choose the response.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple, Protocol

from pgshapes.gates.clients import FORWARDED
from pgshapes.http_api import headers
from pgshapes.http_api.headers import Headers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST_STREAMED: Final = 128 * 1024
MIN_REQUEST_ID, MAX_REQUEST_ID = 20, 200
"""The lengths in bytes between which an incoming `x-request-id` is used."""

READ_HEADERS: Final = frozenset(
    {b"origin", b"x-request-id", b"if-none-match", b"access-control-request-headers", FORWARDED}
)
"""The request headers that are used; all others are ignored."""

BODILESS: Final = frozenset({204, 304})
"""Statuses whose responses have no body and no `content-length` (RFC 9110, section 8.6)."""

_PREFIX: Final = secrets.token_hex(8)
_NUMBERS = itertools.count(1)


class BodyInParts(Protocol):
    """A body that is sent in parts, each when the client has read most of those before."""

    def __len__(self) -> int:
        """The size of the whole body."""

    async def part(self, start: int) -> bytes:
        """The part that begins at `start`. Raises StorageError."""


class _Slices:
    """A body in memory, in parts."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __len__(self) -> int:
        return len(self._body)

    async def part(self, start: int) -> bytes:
        """The part that begins at `start`."""
        return self._body[start : start + LARGEST_STREAMED]


class ResponseAborted(Exception):
    """A response that has begun cannot be completed: the server has to close the connection."""


class Response(NamedTuple):
    """A complete response: status, body, and the headers that do not depend on the request."""

    status: int
    headers: Headers
    body: bytes | BodyInParts = b""


class Exchange:
    """One request and the response to it."""

    __slots__ = (
        "_has_body",
        "_send",
        "client",
        "has_begun",
        "is_cacheable",
        "method",
        "methods",
        "query",
        "receive",
        "request_headers",
        "request_id",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, is_shared: bool = True) -> None:
        method: str = scope["method"]
        self.scope = scope
        self.client: str | None = None
        """For which client the request counts; None: for nobody."""
        self._send = send
        self._has_body = method != "HEAD"
        self.request_headers: dict[bytes, list[bytes]] = {}
        """The values of the request headers in `READ_HEADERS`, in order."""
        for name, value in scope["headers"]:
            if name in READ_HEADERS:
                self.request_headers.setdefault(name, []).append(value)
        self.receive = receive
        self.method = method if self._has_body else "GET"
        self.is_cacheable = is_shared and self.method in ("GET", "OPTIONS")
        """Whether caches may store the response; False if it depends on the client."""
        self.methods = headers.OTHER_METHODS
        """The value of `access-control-allow-methods` for the resolved route."""
        self.query: bytes = scope["query_string"]
        self.request_id = self._choose_request_id()
        self.has_begun = False

    @property
    def path(self) -> str:
        """The decoded path below the mount point of the application."""
        path: str = self.scope["path"]
        return path.removeprefix(self.scope.get("root_path", ""))

    async def answer(self, response: Response) -> None:
        """Send a complete response."""
        own = response.headers
        if response.status not in BODILESS:
            own = [*own, headers.content_length(len(response.body))]
        await self.begin(response.status, own)
        body = response.body
        if not self._has_body:
            body = b""
        elif not isinstance(body, bytes) or len(body) > LARGEST_STREAMED:
            await self._send_parts(_Slices(body) if isinstance(body, bytes) else body)
            body = b""
        await self._send({"type": "http.response.body", "body": body})

    async def _send_parts(self, body: BodyInParts) -> None:
        """Send a body except for its end. The server waits before each message until most of the others are
        with the client, so what follows is not sent before that. Other tasks run between parts.
        """
        position = 0
        while position < len(body):
            if position:
                await asyncio.sleep(0)
            part = await body.part(position)
            position += len(part)
            await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def answer_without_cors(self, status: int, body: bytes) -> None:
        """Send a response without CORS headers."""
        self.has_begun = True
        pairs = [*headers.without_cors(self.request_id), headers.content_length(len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": body if self._has_body else b""})

    async def begin(self, status: int, own: Headers) -> None:
        """Send the status and the headers: `own` and those that depend on the request."""
        origins = self.request_headers.get(b"origin")
        pairs = own + headers.per_request(self.request_id, origins[0] if origins else None, self.methods)
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def stream(self, body: bytes, *, is_last: bool = False) -> None:
        """Send a part of a body of unknown length, in smaller parts if it is large."""
        shown = body if self._has_body else b""
        if len(shown) <= LARGEST_STREAMED:
            await self._send({"type": "http.response.body", "body": shown, "more_body": not is_last})
            return
        for start in range(0, len(shown), LARGEST_STREAMED):
            part = shown[start : start + LARGEST_STREAMED]
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
        # Sent when most of the others are with the client.
        await self._send({"type": "http.response.body", "body": b"", "more_body": not is_last})

    def _choose_request_id(self) -> bytes:
        for given in self.request_headers.get(b"x-request-id", ()):
            if MIN_REQUEST_ID <= len(given) <= MAX_REQUEST_ID:
                return given
        return f"{_PREFIX}-{next(_NUMBERS):08x}".encode()
