"""The protocol as a client sees it: what to ask next, and what an answer means (docs/protocol.md).

Not here: sockets, waiting, clocks (`shape_stream.py`). Pure; one `ShapeProtocol` follows one shape and is the
only writer of its place in the log. Invariant: the place moves only together with the messages that lead to
it.
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

LONGEST_STANDSTILL: Final = 5
"""Answers in a row that bring nothing and say that there is more: a cache is stuck."""


class Request(NamedTuple):
    """What to send."""

    parameters: list[tuple[str, str]]
    """Sorted by name: equal requests have equal URLs, so caches can share the answer."""
    is_live: bool


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


class Retry(NamedTuple):
    """The request has to be sent again, after a wait."""

    reason: str
    retry_after: str | None = None
    """The header, as it came."""


class ShapeProtocol:
    """Follows one shape: `request()` → send it → `receive(answer)`, for ever."""

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
        self._standstill = 0
        self._refetches = 0

    def request(self) -> Request:
        """The next request; the same again until an answer to it has been received."""
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

    def receive(self, answer: Answer) -> Batch | Retry:
        """What an answer means. Raises RequestError (the request is wrong) and WireError (the answer is)."""
        if answer.status == 409:
            return self._refetch(answer)
        if 200 <= answer.status < 300:
            return self._advance(answer)
        if 400 <= answer.status < 500 and answer.status != 429:
            raise _refusal(answer)
        return Retry(f"status {answer.status}: {_text(answer)}", answer.headers.get("retry-after"))

    def _refetch(self, answer: Answer) -> Batch | Retry:
        self._expired_handle = self.position.handle or self._expired_handle
        new_handle = answer.headers.get("electric-handle")
        # At offset -1 the server discards the handle; it makes the URL differ from the one that a cache may
        # hold.
        self.position = Position(new_handle if new_handle != self._expired_handle else None)
        self.is_up_to_date = False
        self._cursor = self._schema_header = None
        self._cache_buster = self._new_cache_buster()
        self._standstill = 0
        self._refetches += 1
        if self._refetches > 1:
            return Retry("the shape is told to be fetched anew, again and again")
        return Batch([REFETCH_MESSAGE], self.position, is_up_to_date=False)

    def _advance(self, answer: Answer) -> Batch | Retry:
        position = self._position_in(answer)
        if self._is_stale(position):
            return self._ask_past_caches("a cache gave an answer of a shape that is gone")
        messages = decode_messages(answer.body, self._value_parser(answer))
        is_up_to_date = _ends_up_to_date(messages)
        if not is_up_to_date and not messages and position.offset == self.position.offset:
            return self._ask_past_caches("the answers bring nothing and say that there is more")
        self._cursor = answer.headers.get("electric-cursor", self._cursor)
        self._cache_buster = None
        self._standstill = self._refetches = 0
        self.position, self.is_up_to_date = position, is_up_to_date
        return Batch(messages, position, is_up_to_date)

    def _position_in(self, answer: Answer) -> Position:
        needed = ["electric-handle", "electric-offset"]
        needed.append("electric-cursor" if self.is_up_to_date else "electric-schema")
        missing = [name for name in needed if name not in answer.headers]
        if missing:
            raise WireError(
                f"the answer has no {', '.join(missing)}: not a Shape API, or a proxy removes headers"
            )
        return Position(answer.headers["electric-handle"], answer.headers["electric-offset"])

    def _is_stale(self, position: Position) -> bool:
        if position.handle == self._expired_handle:
            return True
        return self.position.offset != "-1" and position.handle != self.position.handle

    def _ask_past_caches(self, reason: str) -> Retry:
        self._standstill += 1
        if self._standstill > LONGEST_STANDSTILL:
            raise WireError(f"no progress: {reason}")
        self._cache_buster = self._new_cache_buster()
        return Retry(reason)

    def _value_parser(self, answer: Answer) -> ParseValue | None:
        # The first schema counts until a refetch, as in the TypeScript client.
        if self._parses_values and self._schema_header is None and "electric-schema" in answer.headers:
            self._schema_header = answer.headers["electric-schema"]
            self._parse_value = value_parser(self._schema_header)
        return self._parse_value


def _ends_up_to_date(messages: list[Message]) -> bool:
    last = messages[-1] if messages else None
    return isinstance(last, ControlMessage) and last.control == UP_TO_DATE


def _refusal(answer: Answer) -> RequestError:
    try:
        told: Any = orjson.loads(answer.body)
        message = str(told.get("message") or told.get("error") or _text(answer))
        return RequestError(message, status=answer.status, errors=told.get("errors"))
    except (orjson.JSONDecodeError, AttributeError):
        return RequestError(_text(answer), status=answer.status)


def _text(answer: Answer) -> str:
    return answer.body[:500].decode("utf-8", "replace") or "no text"
