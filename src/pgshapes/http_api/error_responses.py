"""Maps errors to responses: the only place that assigns status, body and headers to exception classes.

One table, searched in the order of the class's `__mro__`. Invariants: every class in `errors.py` has a row of
its own; texts are `client_text`, never messages, as those of the database and of the operating system are for
the log. Tests check both. The 409 after a schema change is here because the creation of a shape can only
report it as an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from pgshapes import errors
from pgshapes.http_api import headers
from pgshapes.http_api.parameters import UnreadableBody
from pgshapes.http_api.response import Response

MUST_REFETCH: Final = b'[{"headers":{"control":"must-refetch"}}]'
SOURCE_RETRY_S: Final = 10
SHORTAGE: Final = "The server cannot use its storage at the moment; please retry"
SHORTAGE_RETRY_S: Final = 2
FULL: Final = "The server's storage is full; please retry later"


class _Answer(NamedTuple):
    """An error response, before the headers that depend on the request's method are added."""

    status: int
    payload: dict[str, Any] | None
    """The JSON body; None for must-refetch."""
    retry_after_s: int | None = None
    is_known: bool = False
    is_bare: bool = False
    """Whether it has no content type; so for unexpected failures."""


def error_response(error: BaseException, *, is_cacheable: bool) -> Response:
    """The response for a request that raised `error`; for unknown exceptions a 500 without details.

    `is_cacheable` is whether caches may store responses to this request at all.
    """
    answer = _answer_to(error)
    if answer.payload is None:
        return refetch_response(None, is_cacheable=is_cacheable)
    if isinstance(error, UnreadableBody):
        pairs = [headers.JSON, headers.uncached()]
    elif answer.is_bare:
        pairs = [headers.uncached()] if answer.status == 500 else _bare_headers(answer)
    else:
        pairs = headers.error_headers(
            is_cacheable=is_cacheable, retry_after_s=answer.retry_after_s, is_known=answer.is_known
        )
    return Response(answer.status, pairs, orjson.dumps(answer.payload))


def refetch_response(handle: str | None, *, is_cacheable: bool) -> Response:
    """409: the client discards its copy and starts again, with this handle if there is one."""
    return Response(409, headers.refetch_headers(handle, is_cacheable=is_cacheable), MUST_REFETCH)


def _answer_to(error: BaseException) -> _Answer:
    for ancestor in type(error).__mro__:
        if ancestor in ANSWERS:
            return ANSWERS[ancestor](error)
    return _INTERNAL


def _bare_headers(answer: _Answer) -> headers.Headers:
    return headers.error_headers(is_cacheable=True, retry_after_s=answer.retry_after_s, is_json=False)


def _internal(_: Any) -> _Answer:
    return _INTERNAL


def _request(error: errors.RequestError) -> _Answer:
    payload: dict[str, Any] = {"message": error.client_text}
    if error.errors is not None:
        payload["errors"] = error.errors
    return _Answer(error.status, payload)


def _unreadable(error: UnreadableBody) -> _Answer:
    return _Answer(error.status, {"error": error.client_text})


def _not_now(error: errors.NotNow) -> _Answer:
    return _Answer(503, {"message": error.client_text}, error.retry_after_s, error.known)


def _overloaded(error: errors.Overloaded) -> _Answer:
    payload = {"code": "concurrent_request_limit_exceeded", "message": error.client_text}
    return _Answer(503, payload, error.retry_after_s, is_known=True)


def _refetch(_: errors.SchemaChanged) -> _Answer:
    return _Answer(409, None)


def _source(_: errors.SourceError) -> _Answer:
    payload = {"code": "database_unreachable", "error": "Database is unreachable"}
    return _Answer(503, payload, SOURCE_RETRY_S, is_bare=True)


def _replica_identity(error: errors.ReplicaIdentityNotFull) -> _Answer:
    return _Answer(503, {"message": error.client_text}, SOURCE_RETRY_S, is_known=True)


def _owner_unavailable(error: errors.OwnerUnavailable) -> _Answer:
    return _Answer(503, {"message": error.client_text}, retry_after_s=1)


def _storage(error: errors.StorageError) -> _Answer:
    return _Answer(500, {"message": f"Unable to retrieve shape log: {error.client_text}"})


def _catalogue(error: errors.CatalogueError) -> _Answer:
    return _Answer(500, {"message": error.client_text})


def _shortage(_: errors.StorageShortage) -> _Answer:
    return _Answer(503, {"message": SHORTAGE}, SHORTAGE_RETRY_S, is_known=True)


def _disk_full(_: errors.DiskFull) -> _Answer:
    return _Answer(503, {"message": FULL}, SOURCE_RETRY_S, is_known=True)


_INTERNAL: Final = _Answer(500, {"error": "Internal server error"}, is_bare=True)

ANSWERS: Final[dict[type[BaseException], Callable[[Any], _Answer]]] = {
    errors.PgShapesError: _internal,
    errors.ConfigError: _internal,
    errors.RequestError: _request,
    UnreadableBody: _unreadable,
    errors.NotNow: _not_now,
    errors.NotReady: _not_now,
    errors.Overloaded: _overloaded,
    errors.GaveWay: _not_now,
    errors.CreationFailed: _not_now,
    errors.SchemaChanged: _refetch,
    errors.SourceError: _source,
    errors.OwnerUnavailable: _owner_unavailable,
    errors.OwnerTimeout: _owner_unavailable,
    errors.StaleTables: _owner_unavailable,
    errors.ReplicaIdentityNotFull: _replica_identity,
    errors.WireError: _internal,
    errors.StorageError: _storage,
    errors.CatalogueError: _catalogue,
    errors.StorageShortage: _shortage,
    errors.StorageFailing: _shortage,
    errors.DiskFull: _disk_full,
}
