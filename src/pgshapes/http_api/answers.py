"""Builds complete responses from a request and what was read for it.

Reading and waiting are in `reads` and `live`, the individual headers in `headers`. Not pure: cursors depend
on the wall clock and a random number, entity tags of responses without changes on the monotonic clock.
"""

from __future__ import annotations

import random
import time
from functools import lru_cache, partial
from typing import Final, NamedTuple

from pgshapes.http_api import headers
from pgshapes.http_api.body_cache import Piece, up_to_date
from pgshapes.http_api.decide import is_match
from pgshapes.http_api.headers import Caching, Headers, ShapeFacts
from pgshapes.http_api.params import ShapeRequest
from pgshapes.http_api.response import Response
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.offset import Offset
from pgshapes.model.shape import ResolvedShape

CAPACITY: Final = 4096
"""Entries of about 2 KB each."""


class ResolvedRequest(NamedTuple):
    """A request, its resolved shape definition, and the handle to serve."""

    request: ShapeRequest
    shape: ResolvedShape
    handle: str
    if_none_match: list[str]
    is_cacheable: bool


class Answers:
    """Builds the responses of one application.

    State: a cache of the headers of `CAPACITY` pieces; the least recently used are evicted.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._caching = Caching(settings.cache_max_age_s, settings.cache_stale_age_s, settings.sse_timeout_ms)
        self._cached_headers = lru_cache(CAPACITY)(partial(headers.shape_headers, caching=self._caching))

    def of_piece(self, resolved: ResolvedRequest, piece: Piece) -> Response:
        """200 with a piece of the snapshot or the log, or 304 if the client has it already."""
        facts = self._facts(resolved, piece.end, piece.is_up_to_date)
        if resolved.if_none_match and self._is_known(resolved, facts):
            return self._not_modified(resolved, facts)
        body = piece.body if piece.large is None else piece.large
        return Response(200, self._with_cursor(resolved, self._cached_headers(facts)), body)

    def of_no_change(self, resolved: ResolvedRequest, latest: Offset, lsn: int) -> Response:
        """200 with the control message `up-to-date` alone."""
        facts = self._facts(resolved, latest, True)._replace(has_data=False)
        own = headers.shape_headers(facts, self._caching)
        own.append(headers.no_change_etag(facts, time.monotonic_ns()))
        return Response(200, self._with_cursor(resolved, own), b"[%b]" % up_to_date(lsn))

    def of_matched_end(self, resolved: ResolvedRequest, latest: Offset) -> Response | None:
        """304 for a live request whose client has the log up to `latest`; None for other requests."""
        facts = self._facts(resolved, latest, True)
        return self._not_modified(resolved, facts) if self._is_known(resolved, facts) else None

    def of_subset(self, resolved: ResolvedRequest, offset: Offset, body: bytes) -> Response:
        """200 with a subset snapshot."""
        return Response(200, headers.subset_headers(self._facts(resolved, offset, False)), body)

    def start_of_stream(self, resolved: ResolvedRequest, offset: Offset) -> Headers:
        """The headers of an SSE stream of the log after `offset`."""
        facts = self._facts(resolved, offset, False)._replace(is_sse=True)
        return self._with_cursor(resolved, headers.shape_headers(facts, self._caching))

    def _facts(self, resolved: ResolvedRequest, end: Offset, is_up_to_date: bool) -> ShapeFacts:
        request = resolved.request
        schema = resolved.shape.schema_header
        return ShapeFacts(
            resolved.handle,
            request.offset,
            end,
            schema,
            request.is_live,
            is_up_to_date,
            resolved.is_cacheable,
        )

    def _is_known(self, resolved: ResolvedRequest, facts: ShapeFacts) -> bool:
        return is_match(headers.etag_of(facts), resolved.if_none_match)

    def _not_modified(self, resolved: ResolvedRequest, facts: ShapeFacts) -> Response:
        return Response(304, self._with_cursor(resolved, headers.not_modified_headers(facts, self._caching)))

    def _with_cursor(self, resolved: ResolvedRequest, own: Headers) -> Headers:
        if not resolved.request.is_live:
            return own
        now_s, window_ms = self._settings.clock(), self._settings.long_poll_timeout_ms
        cursor = headers.next_cursor(now_s, window_ms, resolved.request.cursor, random.random)
        return [*own, headers.cursor_header(cursor)]
