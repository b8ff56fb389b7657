"""A response, and the exchange over which it is sent.

The headers are in `headers`; `serve` and `reads` choose the response.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

from pgshapes.gates.clients import FORWARDED
from pgshapes.http_api import headers
from pgshapes.http_api.headers import Headers

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

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


class Response(NamedTuple):
    """A complete response: status, body, and the headers that do not depend on the request."""

    status: int
    headers: Headers
    body: bytes = b""


class Exchange:
    """One request and the response to it."""

    __slots__ = (
        "_has_body",
        "_send",
        "has_begun",
        "is_cacheable",
        "method",
        "methods",
        "query",
        "receive",
        "request_headers",
        "request_headers",
        "request_id",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, is_shared: bool = True) -> None:
        method: str = scope["method"]
        self.scope = scope
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
        await self._send({"type": "http.response.body", "body": response.body if self._has_body else b""})

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
        """Send a part of a body of unknown length."""
        shown = body if self._has_body else b""
        await self._send({"type": "http.response.body", "body": shown, "more_body": not is_last})

    def _choose_request_id(self) -> bytes:
        for given in self.request_headers.get(b"x-request-id", ()):
            if MIN_REQUEST_ID <= len(given) <= MAX_REQUEST_ID:
                return given
        return f"{_PREFIX}-{next(_NUMBERS):08x}".encode()
