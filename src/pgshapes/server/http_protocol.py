"""uvicorn's HTTP/1.1 protocol with bounds on all that arrives before a request is authenticated.

uvicorn parses whatever a connection sends: heads of any size, as slowly as they come, and any number of
requests that were sent ahead. Here bytes reach the parser in slices that end with a request head, and only
when the connection may go on. Invariants: a head has at most `MAX_HEAD_BYTES` and `MAX_HEADERS` and is
complete within `HEAD_TIMEOUT_S`; no request is parsed while an earlier one is being answered or the client
does not read the answers; a client that reads more slowly than `LEAST_BYTES_PER_S` is disconnected. Nothing
is logged for a request that is refused: clients decide how many there are.

What this relies on in uvicorn (`tests/unit/server/test_uvicorn.py`): a message that has begun has a new
`scope`, its head is complete when `cycle.scope` is the same; `cycle.more_body`, `cycle.response_complete`,
`cycle.on_response`; `flow.read_paused`, `flow.write_paused`.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pgshapes.server.connections import Connections
from pgshapes.server.corked_transport import CorkedTransport

MAX_HEAD_BYTES: Final = 65_536
"""Request line and headers together; the longest query strings of clients have some kilobytes."""
MAX_HEADERS: Final = 100
HEAD_TIMEOUT_S: Final = 10.0
"""From the opening of the connection, or from the first byte of a later head, to its end."""
LEAST_BYTES_PER_S: Final = 1_000
READ_WINDOW_S: Final = 30.0
"""How long a client may read more slowly than `LEAST_BYTES_PER_S`."""
DISCARD_TIMEOUT_S: Final = 10.0
"""How long the body of a request that is answered already is received and discarded."""
_LINGER_S: Final = 2.0
"""How long a refused connection stays open: closed at once, the client might not receive the answer."""
_LARGEST_IGNORED: Final = 2**20
"""How much is read from a refused connection, which also closes with an error if something is unread."""

_HEAD_END: Final = b"\r\n\r\n"
_MAX_LINES: Final = MAX_HEADERS + 2
"""The request line, the headers, and the empty line."""
_LEAST_BODY_SLICE: Final = 256
"""Bodies may contain `_HEAD_END` anywhere; a slice of one is at least so long, or parsing it is slow."""

_TOO_LARGE: Final = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


@dataclass(slots=True)
class _Head:
    """A request head that is not complete."""

    since: float
    size: int = 0
    lines: int = 0
    end: bytes = b""
    """Its last bytes, of which `_HEAD_END` may be the continuation."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, connections: Connections, client_key: Callable[[str], str | None], **given: Any
    ) -> None:
        """`client_key` is called with the address of the client; the rest is what uvicorn gives."""
        super().__init__(**given)
        self.client_key: str | None = None
        self._connections = connections
        self._find_client_key = client_key
        self._head: _Head | None = _Head(self.loop.time())
        self._is_in_order = False
        """Whether the next bytes are expected to be a complete request and nothing else."""
        self._unread = bytearray()
        """What must not be parsed yet."""
        self._refused_at: float | None = None
        self._ignored_bytes = 0
        """What has arrived since then."""
        self._discarding_since: float | None = None
        self._reading: tuple[float, int] | None = None
        """When the present window of a slow reader began, and how many bytes it had accepted then."""

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the protocol on a corked transport, if there is room for a connection."""
        super().connection_made(CorkedTransport(transport))  # type: ignore[arg-type]
        self.client_key = self._find_client_key(self.client[0]) if self.client else None
        if self._connections.is_stopping:
            self.transport.close()
        elif not self._connections.open(self):
            self._write_refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections")
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.close(self)
        self._drop_unread()
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrives, as far as it may be."""
        cycle = self.cycle
        if (
            self._is_in_order
            and len(_HEAD_END) < len(data) <= MAX_HEAD_BYTES
            and data.find(_HEAD_END) + len(_HEAD_END) == len(data)
            and data.count(b"\n") <= _MAX_LINES
            and cycle.response_complete
            and not cycle.more_body
            and not self.flow.write_paused
        ):
            self._unset_keepalive_if_required()
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                pass  # answered as if it were not asked for
            except httptools.HttpParserError:
                self._refuse(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received.")
        elif self._refused_at is None:
            self._receive(bytes(data))
        else:
            self._ignore(len(data))

    def resume_writing(self) -> None:
        """Go on with requests that were sent ahead: the client has read the answers."""
        super().resume_writing()
        if self._unread:
            self.loop.call_soon(self._read_on)

    def evict(self) -> None:
        """Close the connection at once."""
        self._drop_unread()
        self._end_head()
        self.transport.abort()

    def check(self, now: float) -> None:
        """Close the connection if it has taken too long; call it every second or two."""
        if self._refused_at is not None:
            if now - self._refused_at > _LINGER_S:
                self.transport.abort()
            return
        self._check_head(now)
        self._check_discarding(now)
        self._check_reader(now)

    def _receive(self, data: bytes) -> None:
        if self._unread or self._must_wait():
            self._keep(data)
        else:
            self._parse(data)
        self._is_in_order = self._head is None and not self._unread and self._refused_at is None

    def _ignore(self, size: int) -> None:
        """Ignore what arrives after a refusal, and stop reading when that is much."""
        self._ignored_bytes += size
        if self._ignored_bytes > _LARGEST_IGNORED:
            self.transport.pause_reading()

    def _must_wait(self) -> bool:
        """Whether nothing may be parsed: a request is being answered, or answers are not read."""
        cycle = self.cycle
        if cycle is None or cycle.more_body:
            return False
        return not cycle.response_complete or self.flow.write_paused

    def _keep(self, data: bytes) -> None:
        """Keep data for later and stop reading."""
        self._unread += data
        self.transport.pause_reading()
        if not self.cycle.response_complete:
            self.cycle.on_response = self._answered
        self._connections.hold(self, len(data))

    def _answered(self) -> None:
        self.on_response_complete()
        self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._unread or self.transport.is_closing() or self._must_wait():
            return
        data = bytes(self._unread)
        self._drop_unread()
        self._receive(data)
        if not self._unread and not self.flow.read_paused:
            self.transport.resume_reading()

    def _drop_unread(self) -> None:
        self._connections.held_bytes -= len(self._unread)
        self._unread = bytearray()

    def _parse(self, data: bytes) -> None:
        """Parse data in slices until a request has to be answered first."""
        position = 0
        while position < len(data) and not self.transport.is_closing() and self._refused_at is None:
            if self._must_wait():
                self._keep(data[position:])
                return
            end = self._end_of_slice(data, position)
            self._parse_slice(data[position:end])
            position = end

    def _end_of_slice(self, data: bytes, position: int) -> int:
        limit = min(position + MAX_HEAD_BYTES, len(data))
        before = b"" if self._head is None else self._head.end
        across = (before + data[position : position + len(_HEAD_END) - 1]).find(_HEAD_END)
        if across >= 0:
            return position + across + len(_HEAD_END) - len(before)
        start = position + _LEAST_BODY_SLICE if self._is_in_body() else position
        first = data.find(b"\r", start, limit)  # 0.5 µs for 64 KB; all four bytes: 36 µs
        found = -1 if first < 0 else data.find(_HEAD_END, first, limit)
        return limit if found < 0 else found + len(_HEAD_END)

    def _is_in_body(self) -> bool:
        cycle = self.cycle
        return cycle is not None and cycle.more_body and cycle.scope is self.scope

    def _parse_slice(self, data: bytes) -> None:
        is_body, cycle, head = self._is_in_body(), self.cycle, self._head
        size, lines = len(data), data.count(b"\n")
        if head is not None:
            size, lines = size + head.size, lines + head.lines
        if not is_body and self._refuse_head(size, lines):
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received.")
            return
        has_begun = self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)
        if has_begun or (self.cycle is cycle and not is_body):
            self._continue_head(_Head(self.loop.time()) if head is None else head, data, size, lines)
        else:
            self._end_head()
            self._discarding_since = None

    def _refuse_head(self, size: int, lines: int) -> bool:
        """Refuse a head that is too large; return whether it is."""
        if size <= MAX_HEAD_BYTES and lines <= _MAX_LINES:
            return False
        if not lines:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, f"The URL has more than {MAX_HEAD_BYTES} bytes")
        elif lines > _MAX_LINES:
            self._refuse(_TOO_LARGE, f"The request has more than {MAX_HEADERS} headers")
        else:
            self._refuse(_TOO_LARGE, f"The request line and headers have more than {MAX_HEAD_BYTES} bytes")
        return True

    def _continue_head(self, head: _Head, data: bytes, size: int, lines: int) -> None:
        if self._head is None:
            self._head = head
            self._connections.begin_head(self)
        added = size - head.size
        head.size, head.lines, head.end = size, lines, (head.end + data)[1 - len(_HEAD_END) :]
        self._connections.hold(self, added)

    def _end_head(self) -> None:
        if self._head is not None:
            self._connections.held_bytes -= self._head.size
            self._connections.end_head(self)
            self._head = None

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer without the application and close the connection soon; nothing is parsed any more."""
        self._refused_at = self.loop.time()
        self._is_in_order = False
        self._unset_keepalive_if_required()
        self._drop_unread()
        self._write_refusal(status, text)

    def _write_refusal(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        end = f"cache-control: no-store\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + end.encode() + body)

    def _check_head(self, now: float) -> None:
        head = self._head
        if head is None:
            return
        if self._must_wait():
            head.since = now  # what is missing may be among the bytes that are kept
        elif now - head.since > HEAD_TIMEOUT_S:
            if head.size:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"No complete request head in {HEAD_TIMEOUT_S:g} s")
            else:
                self.transport.abort()

    def _check_discarding(self, now: float) -> None:
        cycle = self.cycle
        if cycle is None or not (cycle.response_complete and cycle.more_body):
            return
        if self._discarding_since is None:
            self._discarding_since = now
        elif now - self._discarding_since > DISCARD_TIMEOUT_S:
            self.transport.abort()

    def _check_reader(self, now: float) -> None:
        pending = self.transport.get_write_buffer_size()
        if not pending:
            self._reading = None
            return
        written: int = self.transport.written  # type: ignore[attr-defined]
        accepted = written - pending - _unacknowledged(self.transport)
        if self._reading is None:
            self._reading = (now, accepted)
        elif now - self._reading[0] > READ_WINDOW_S:
            if accepted - self._reading[1] < LEAST_BYTES_PER_S * READ_WINDOW_S:
                self.transport.abort()
            self._reading = (now, accepted)


def _unacknowledged(transport: asyncio.Transport) -> int:
    """The bytes in the kernel that the client has not acknowledged; 0 where the system does not tell.

    They may be megabytes, and more is written only when a third of them is gone: without them a client that
    reads steadily seems to stand still.
    """
    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)
