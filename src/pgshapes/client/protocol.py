"""The client side of the protocol: the next request, and the interpretation of a response (docs/protocol.md).

Not here: sockets, waiting, clocks (`shape_stream.py`). Pure; one `ShapeProtocol` follows one shape and is the
only writer of its position. Invariant: the position changes only together with the messages up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from pgshapes.client.messages import (
    REFETCH_MESSAGE,
    UP_TO_DATE,
    Batch,
    ControlMessage,
    Message,
    ParseValue,
    Position,
    decode_messages,
)
from pgshapes.client.query import Query
from pgshapes.client.values import value_parser
from pgshapes.errors import RequestError, WireError

MAX_STALE_RESPONSES: Final = 5
"""Consecutive responses from a cache without progress, after which the client gives up."""


class Request(NamedTuple):
    """A request to send."""

    parameters: list[tuple[str, str]]
    """Sorted by name: equal requests have equal URLs, so that caches can share the response."""
    is_live: bool


class Response(NamedTuple):
    """A received response."""

    status: int
    headers: Mapping[str, str]
    """Names are in lower case."""
    body: bytes


class Retry(NamedTuple):
    """The request must be sent again after a delay."""

    reason: str
    retry_after: str | None = None
    """The value of the header."""


class ShapeProtocol:
    """Follows one shape: repeat `request()`, send it, `receive(response)`."""

    def __init__(
        self,
        query: Query,
        start: Position,
        new_cache_buster: Callable[[], str],
        *,
        parses_values: bool = True,
    ) -> None:
        self.position = start
        self.is_up_to_date = False
        self._query = query.parameters()
        self._new_cache_buster = new_cache_buster
        self._parses_values = parses_values
        self._parse_value: ParseValue | None = None
        self._schema_header: str | None = None
        self._cursor: str | None = None
        self._cache_buster: str | None = None
        self._expired_handle: str | None = None
        self._stale_responses = 0
        self._refetches = 0

    def request(self) -> Request:
        """The next request; unchanged until `receive` is called."""
        handle, offset = self.position
        parameters = {**self._query, "offset": offset}
        if handle is not None:
            parameters["handle"] = handle
        if self.is_up_to_date:
            parameters["live"] = "true"
            if self._cursor is not None:
                parameters["cursor"] = self._cursor
        if self._expired_handle is not None:
            parameters["expired_handle"] = self._expired_handle
        if self._cache_buster is not None:
            parameters["cache-buster"] = self._cache_buster
        return Request(sorted(parameters.items()), self.is_up_to_date)

    def receive(self, response: Response) -> Batch | Retry:
        """Process a response. Raises RequestError (invalid request) and WireError (invalid response)."""
        if response.status == 409:
            return self._refetch(response)
        if 200 <= response.status < 300:
            return self._advance(response)
        if 400 <= response.status < 500 and response.status != 429:
            raise _refusal(response)
        return Retry(f"status {response.status}: {_text(response)}", response.headers.get("retry-after"))

    def _refetch(self, response: Response) -> Batch | Retry:
        self._expired_handle = self.position.handle or self._expired_handle
        new_handle = response.headers.get("electric-handle")
        # At offset -1 the server ignores the handle; it only makes the URL differ from a cached one.
        self.position = Position(new_handle if new_handle != self._expired_handle else None)
        self.is_up_to_date = False
        self._cursor = self._schema_header = None
        self._cache_buster = self._new_cache_buster()
        self._stale_responses = 0
        self._refetches += 1
        if self._refetches > 1:
            return Retry("the server repeatedly requests a refetch")
        return Batch([REFETCH_MESSAGE], self.position, is_up_to_date=False)

    def _advance(self, response: Response) -> Batch | Retry:
        position = self._position_in(response)
        if self._is_stale(position):
            return self._retry_past_caches("a cache returned a response of a removed shape")
        messages = decode_messages(response.body, self._value_parser(response))
        is_up_to_date = _ends_up_to_date(messages)
        if not is_up_to_date and not messages and position.offset == self.position.offset:
            return self._retry_past_caches("the response contains no messages and is not up to date")
        self._cursor = response.headers.get("electric-cursor", self._cursor)
        self._cache_buster = None
        self._stale_responses = self._refetches = 0
        self.position, self.is_up_to_date = position, is_up_to_date
        return Batch(messages, position, is_up_to_date)

    def _position_in(self, response: Response) -> Position:
        needed = ["electric-handle", "electric-offset"]
        needed.append("electric-cursor" if self.is_up_to_date else "electric-schema")
        missing = [name for name in needed if name not in response.headers]
        if missing:
            raise WireError(
                f"the response has no {', '.join(missing)}: not a Shape API, or a proxy removes headers"
            )
        return Position(response.headers["electric-handle"], response.headers["electric-offset"])

    def _is_stale(self, position: Position) -> bool:
        if position.handle == self._expired_handle:
            return True
        return self.position.offset != "-1" and position.handle != self.position.handle

    def _retry_past_caches(self, reason: str) -> Retry:
        self._stale_responses += 1
        if self._stale_responses > MAX_STALE_RESPONSES:
            raise WireError(f"no progress: {reason}")
        self._cache_buster = self._new_cache_buster()
        return Retry(reason)

    def _value_parser(self, response: Response) -> ParseValue | None:
        # The first schema is used until a refetch, as in the TypeScript client.
        if self._parses_values and self._schema_header is None and "electric-schema" in response.headers:
            self._schema_header = response.headers["electric-schema"]
            self._parse_value = value_parser(self._schema_header)
        return self._parse_value


def _ends_up_to_date(messages: list[Message]) -> bool:
    last = messages[-1] if messages else None
    return isinstance(last, ControlMessage) and last.control == UP_TO_DATE


def _refusal(response: Response) -> RequestError:
    try:
        body: Any = orjson.loads(response.body)
        message = str(body.get("message") or body.get("error") or _text(response))
        return RequestError(message, status=response.status, errors=body.get("errors"))
    except (orjson.JSONDecodeError, AttributeError):
        return RequestError(_text(response), status=response.status)


def _text(response: Response) -> str:
    return response.body[:500].decode("utf-8", "replace") or "empty body"
