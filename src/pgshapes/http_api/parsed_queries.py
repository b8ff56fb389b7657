"""A cache of parsed query strings: clients send the same ones repeatedly.

State: a bounded mapping, owned by one application; the oldest entry is evicted.
"""

from __future__ import annotations

from typing import Final

from pgshapes.http_api.parameters import Parameters, gather_subset, merge_parameters, parse_query_string
from pgshapes.http_api.params import ShapeRequest, parse_shape_request

CAPACITY: Final = 8192
LONGEST_CACHED_BYTES: Final = 2048
"""With `CAPACITY`: at most about 50 MB, enough for the queries of ten thousand ordinary clients."""


class ParsedQuery:
    """A parsed query string; the typed request is made when it is first needed."""

    __slots__ = ("_request", "handle", "parameters", "secret")

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.handle = self._text("handle")
        """The handle that the client presents, even if other parameters are invalid."""
        self.secret = self._text("secret" if "secret" in parameters else "api_secret")
        """The secret that the client presents; `secret` takes precedence over the older name."""
        self._request: ShapeRequest | None = None

    def request(self) -> ShapeRequest:
        """The typed request of a GET. Raises RequestError."""
        if self._request is None:
            self._request = parse_shape_request(gather_subset(self.parameters))
        return self._request

    def request_with(self, body: Parameters) -> ShapeRequest:
        """The typed request of a POST. Raises RequestError."""
        return parse_shape_request(merge_parameters(self.parameters, body))

    def _text(self, name: str) -> str | None:
        value = self.parameters.get(name)
        return value if isinstance(value, str) else None


class ParsedQueries:
    """Parses query strings and caches the results."""

    def __init__(self) -> None:
        self._cached: dict[bytes, ParsedQuery] = {}

    def parse(self, raw: bytes) -> ParsedQuery:
        """The parsed query string. Raises RequestError for bytes that are not UTF-8."""
        found = self._cached.get(raw)
        if found is None:
            found = ParsedQuery(parse_query_string(raw))
            if len(raw) <= LONGEST_CACHED_BYTES:
                self._store(raw, found)
        return found

    def _store(self, raw: bytes, query: ParsedQuery) -> None:
        if len(self._cached) >= CAPACITY:
            del self._cached[next(iter(self._cached))]
        self._cached[raw] = query
