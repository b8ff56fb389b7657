"""From what is asked and what was found to a whole response. Pure but for the clock that it is given.

Not here: reading the log, waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Final

from pgshapes.http_api import headers
from pgshapes.http_api.body_cache import Piece, up_to_date
from pgshapes.http_api.decide import is_match
from pgshapes.http_api.headers import Caching, Headers, ShapeFacts
from pgshapes.http_api.params import ShapeRequest
from pgshapes.http_api.response import Response
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.offset import BEFORE_ALL, Offset, format_offset
from pgshapes.model.shape import ResolvedShape

CAPACITY: Final = 4096
"""Some 2 KB each."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose shape and handle are settled."""

    request: ShapeRequest
    shape: ResolvedShape
    handle: str
    if_none_match: list[str]
    is_cacheable: bool
    query: bytes | None = None
    """The raw query string, if the request is made of it alone."""


class Answers:
    """Makes the responses of one application.

    State: headers that were made lately, by everything that they depend on; the oldest go first.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._made: dict[Hashable, Headers] = {}
        self._settings = settings
        self._caching = Caching(settings.cache_max_age_s, settings.cache_stale_age_s, settings.sse_timeout_ms)

    def of_piece(self, asked: Asked, piece: Piece) -> Response:
        """200 with a piece of the snapshot or of the log, or 304 for who has it already."""
        if asked.if_none_match:
            facts = self._facts(asked, piece.end, is_up_to_date=piece.is_up_to_date)
            if self._is_known(asked, facts):
                return self._not_modified(asked, facts)
        return Response(200, self._with_cursor(asked, self._piece_headers(asked, piece)), piece.body)

    def of_no_change(self, asked: Asked, latest: Offset, lsn: int) -> Response:
        """200 that only says `up-to-date`."""
        facts = replace(self._facts(asked, latest, is_up_to_date=True), has_data=False)
        own = headers.shape_headers(facts, self._caching)
        own.append(headers.no_change_etag(facts, time.monotonic_ns()))
        return Response(200, self._with_cursor(asked, own), b"[%b]" % up_to_date(lsn))

    def of_known_end(self, asked: Asked, latest: Offset) -> Response | None:
        """304 for a live request that already has what ends at `latest`; None for all others."""
        if not asked.if_none_match:
            return None
        facts = self._facts(asked, latest, is_up_to_date=True)
        return self._not_modified(asked, facts) if self._is_known(asked, facts) else None

    def of_subset(self, asked: Asked, offset: Offset, body: bytes) -> Response:
        """200 with a subset snapshot."""
        return Response(200, headers.subset_headers(self._facts(asked, offset)), body)

    def start_of_stream(self, asked: Asked, offset: Offset) -> Headers:
        """Headers of an SSE stream of what comes after `offset`."""
        facts = replace(self._facts(asked, offset), is_sse=True)
        return self._with_cursor(asked, headers.shape_headers(facts, self._caching))

    def _piece_headers(self, asked: Asked, piece: Piece) -> Headers:
        key = (asked.query, asked.handle, piece.end, piece.is_up_to_date, asked.shape.schema_header)
        made = self._made.get(key)
        if made is None:
            facts = self._facts(asked, piece.end, is_up_to_date=piece.is_up_to_date)
            made = headers.shape_headers(facts, self._caching)
            if asked.query is not None:
                self._remember(key, made)
        return made

    def _remember(self, key: Hashable, made: Headers) -> None:
        if len(self._made) >= CAPACITY:
            del self._made[next(iter(self._made))]
        self._made[key] = made

    def _facts(self, asked: Asked, end: Offset, *, is_up_to_date: bool = False) -> ShapeFacts:
        request = asked.request
        return ShapeFacts(
            handle=asked.handle,
            requested=request.offset_text,
            offset=format_offset(end),
            schema=asked.shape.schema_header,
            is_initial=request.offset == BEFORE_ALL,
            is_live=request.is_live,
            is_up_to_date=is_up_to_date,
            is_cacheable=asked.is_cacheable,
        )

    def _is_known(self, asked: Asked, facts: ShapeFacts) -> bool:
        return bool(asked.if_none_match) and is_match(headers.etag_of(facts), asked.if_none_match)

    def _not_modified(self, asked: Asked, facts: ShapeFacts) -> Response:
        return Response(304, self._with_cursor(asked, headers.not_modified_headers(facts, self._caching)))

    def _with_cursor(self, asked: Asked, own: Headers) -> Headers:
        if asked.request.is_live:
            settings = self._settings
            cursor = headers.next_cursor(
                settings.clock(), settings.long_poll_timeout_ms, asked.request.cursor
            )
            return [*own, headers.cursor_header(cursor)]
        return own
