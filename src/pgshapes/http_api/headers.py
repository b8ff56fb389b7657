"""The response headers (docs/protocol.md). Pure.

Headers are lists of ASGI pairs. `shape_headers` and similar functions return those that depend on the
response, `per_request` those that depend on the request; `response.Exchange` joins the two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from pgshapes import __version__
from pgshapes.http_api.params import Now
from pgshapes.model.offset import BEFORE_ALL, Offset, format_offset

Headers = list[tuple[bytes, bytes]]

HANDLE: Final = b"electric-handle"
OFFSET: Final = b"electric-offset"
SCHEMA: Final = b"electric-schema"
CURSOR: Final = b"electric-cursor"
UP_TO_DATE: Final = b"electric-up-to-date"
HAS_DATA: Final = b"electric-has-data"
SNAPSHOT: Final = b"electric-snapshot"
KNOWN: Final = b"electric-internal-known-error"
ETAG: Final = b"etag"
RETRY_AFTER: Final = b"retry-after"
REQUEST_ID: Final = b"x-request-id"
SERVER: Final = b"electric-server"
REPLICATION: Final = b"pgshapes-replication"
WAITS_FOR: Final = b"pgshapes-waits-for"
EXPOSED: Final = (
    CURSOR,
    HANDLE,
    HAS_DATA,
    OFFSET,
    SCHEMA,
    UP_TO_DATE,
    SNAPSHOT,
    KNOWN,
    RETRY_AFTER,
    ETAG,
    REQUEST_ID,
    SERVER,
    REPLICATION,
    WAITS_FOR,
)
"""The headers that scripts in browsers may read. A header with another name is for caches and connections, or
one that they may always read (Fetch Standard: CORS-safelisted response-header name).
"""

JSON: Final = (b"content-type", b"application/json; charset=utf-8")
EVENT_STREAM: Final = (b"content-type", b"text/event-stream")
TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
KNOWN_ERROR: Final = (KNOWN, b"true")
_KEEP_ALIVE: Final = (b"connection", b"keep-alive")
_UP_TO_DATE: Final = (UP_TO_DATE, b"")
_SNAPSHOT: Final = (SNAPSHOT, b"true")
_SERVER: Final = (SERVER, f"pgshapes/{__version__}".encode())

DEFAULT_CACHE: Final = b"max-age=0, private, must-revalidate"
NO_CACHE: Final = b"no-cache"
NO_STORE: Final = b"no-store"
HEALTH_CACHE: Final = b"no-cache, no-store, must-revalidate"
INITIAL_CACHE: Final = b"public, max-age=604800, s-maxage=3600, stale-while-revalidate=2629746"
LIVE_CACHE: Final = b"public, max-age=5, stale-while-revalidate=5"
REFETCH_CACHE: Final = b"public, max-age=60, must-revalidate"
REFETCH_UNKNOWN_CACHE: Final = b"public, max-age=1, must-revalidate"

SHAPE_METHODS: Final = b"GET, POST, HEAD, DELETE, OPTIONS"
OTHER_METHODS: Final = b"GET, HEAD"
ALLOWED_REQUEST_HEADERS: Final = frozenset({"content-type", "if-none-match", "traceparent", "tracestate"})
_EXPOSED: Final = (b"access-control-expose-headers", b",".join(EXPOSED))

CURSOR_EPOCH: Final = 1_728_432_000
"""2024-10-09T00:00:00Z; cursors count seconds from it."""
CURSOR_JUMP_S: Final = 3600
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Caching:
    """The settings that `cache-control` depends on."""

    max_age_s: int
    stale_age_s: int
    sse_timeout_ms: int


class ShapeFacts(NamedTuple):
    """The values that determine the headers of a 200 or 304 on a shape, together with `Caching`.

    They are the key under which headers are cached, so a field that is added becomes part of the key.
    """

    handle: str
    requested: Offset | Now
    offset: Offset
    """The response's offset."""
    schema: bytes
    is_live: bool = False
    is_up_to_date: bool = False
    is_cacheable: bool = True
    """False for methods other than GET and HEAD."""
    is_sse: bool = False
    has_data: bool = True


def etag_of(facts: ShapeFacts) -> str:
    """The entity tag, without quotes."""
    requested = facts.requested
    text = requested.value if isinstance(requested, Now) else format_offset(requested)
    return f"{facts.handle}:{text}:{format_offset(facts.offset)}"


def shape_headers(facts: ShapeFacts, caching: Caching) -> Headers:
    """Headers of a 200 with data, of an SSE stream, or of a response at the end of the log."""
    headers: Headers = [
        EVENT_STREAM if facts.is_sse else JSON,
        (b"cache-control", success_cache(facts, caching)),
        (HANDLE, facts.handle.encode()),
        (OFFSET, format_offset(facts.offset).encode()),
        (HAS_DATA, b"true" if facts.has_data else b"false"),
    ]
    if facts.is_sse:
        headers.append(_KEEP_ALIVE)
    if not facts.is_live:
        headers.append((SCHEMA, facts.schema))
    if facts.is_up_to_date:
        headers.append(_UP_TO_DATE)
    if facts.has_data:
        headers.append((ETAG, b'"%s"' % etag_of(facts).encode()))
    return headers


def no_change_etag(facts: ShapeFacts, moment: int) -> tuple[bytes, bytes]:
    """The entity tag of a response without changes: different each time, so that it is never revalidated."""
    return (ETAG, b'"%s:%d"' % (etag_of(facts).encode(), moment))


def not_modified_headers(facts: ShapeFacts, caching: Caching) -> Headers:
    """Headers of a 304: those of the 200 without the ones that describe a body."""
    described = {b"content-type", SCHEMA}
    return [pair for pair in shape_headers(facts, caching) if pair[0] not in described]


def subset_headers(facts: ShapeFacts) -> Headers:
    """Headers of a subset snapshot."""
    headers: Headers = [
        JSON,
        (b"cache-control", NO_CACHE),
        _SNAPSHOT,
        (HANDLE, facts.handle.encode()),
        (OFFSET, format_offset(facts.offset).encode()),
    ]
    if not facts.is_live:
        headers.append((SCHEMA, facts.schema))
    return headers


def refetch_headers(handle: str | None, *, is_cacheable: bool) -> Headers:
    """Headers of a 409."""
    headers: Headers = [JSON]
    if handle is not None:
        headers += [(HANDLE, handle.encode()), (ETAG, b'"%s::"' % handle.encode())]
    cache = REFETCH_UNKNOWN_CACHE if handle is None else REFETCH_CACHE
    headers.append((b"cache-control", cache if is_cacheable else NO_CACHE))
    return headers


def error_headers(
    *, is_cacheable: bool, retry_after_s: int | None = None, is_known: bool = False, is_json: bool = True
) -> Headers:
    """Headers of an error response, which no cache may store."""
    headers: Headers = [JSON] if is_json else []
    headers += no_store() if is_cacheable else [(b"cache-control", NO_CACHE)]
    if retry_after_s is not None:
        headers.append((RETRY_AFTER, b"%d" % retry_after_s))
    if is_known:
        headers.append(KNOWN_ERROR)
    return headers


def uncached() -> tuple[bytes, bytes]:
    """The default `cache-control`."""
    return (b"cache-control", DEFAULT_CACHE)


def no_store() -> Headers:
    """Headers that forbid clients and shared caches to store the response."""
    return [(b"cache-control", NO_STORE), (b"surrogate-control", NO_STORE)]


def success_cache(facts: ShapeFacts, caching: Caching) -> bytes:
    """`cache-control` of a 200 or 304 that is not a subset snapshot."""
    if not facts.is_cacheable:
        return NO_CACHE
    if facts.requested == BEFORE_ALL:
        return INITIAL_CACHE
    if facts.is_sse:
        return b"public, max-age=%d" % max(1, caching.sse_timeout_ms // 1000 - 1)
    if facts.is_live:
        return LIVE_CACHE
    return b"public, max-age=%d, stale-while-revalidate=%d" % (caching.max_age_s, caching.stale_age_s)


def next_cursor(
    now_s: float, long_poll_timeout_ms: int, previous: str | None, random: Callable[[], float]
) -> int:
    """The end of the current poll window; if that is not after `previous`, a random number after `previous`.

    `now_s` is Unix time; `random` returns numbers in [0, 1).
    """
    window_s = long_poll_timeout_ms // 1000
    if window_s == 0:
        return 0
    cursor = math.ceil((int(now_s) - CURSOR_EPOCH) / window_s) * window_s
    before = _parse_cursor(previous)
    return cursor if cursor > before else before + 1 + int(random() * CURSOR_JUMP_S)


def _parse_cursor(text: str | None) -> int:
    if text is None or _INTEGER.fullmatch(text) is None:
        return 0
    return int(text)


def cursor_header(cursor: int) -> tuple[bytes, bytes]:
    """`electric-cursor`."""
    return (CURSOR, b"%d" % cursor)


def per_request(request_id: bytes, origin: bytes | None, methods: bytes) -> Headers:
    """Headers of every response except the 401."""
    return [
        _SERVER,
        (REQUEST_ID, request_id),
        (b"access-control-allow-origin", origin or b"*"),
        _EXPOSED,
        (b"access-control-allow-methods", methods),
    ]


def without_cors(request_id: bytes) -> Headers:
    """Headers of the 401, which has no CORS headers."""
    return [_SERVER, (REQUEST_ID, request_id), (b"cache-control", DEFAULT_CACHE)]


def preflight_headers(requested: Iterable[bytes]) -> Headers:
    """Headers of the response to OPTIONS; `requested` has the values of `access-control-request-headers`."""
    headers: Headers = [(b"access-control-max-age", b"86400"), _KEEP_ALIVE]
    names = [name.strip().lower() for value in requested for name in value.decode("latin-1").split(",")]
    allowed = [name for name in dict.fromkeys(names) if name in ALLOWED_REQUEST_HEADERS]
    if allowed:
        headers.append((b"access-control-allow-headers", ", ".join(allowed).encode()))
    return headers


def content_length(size: int) -> tuple[bytes, bytes]:
    """`content-length`."""
    return (b"content-length", b"%d" % size)


def health_headers(stream: tuple[str, str]) -> Headers:
    """Headers of a response of `/v1/health`; what is known of the stream, and what stops it, are ours."""
    found: Headers = [JSON, (b"cache-control", HEALTH_CACHE)]
    names = (REPLICATION, WAITS_FOR)
    return found + [(name, text.encode()) for name, text in zip(names, stream, strict=True) if text]


def deletion_headers() -> Headers:
    """Headers of a 202 to DELETE."""
    return [JSON, (b"cache-control", NO_CACHE), (HAS_DATA, b"true")]
