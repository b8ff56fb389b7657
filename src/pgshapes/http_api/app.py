"""The ASGI application: the steps of a request, in order.

Request id → HEAD becomes GET → route → authentication on the resolved route → response of the route →
exceptions become responses, in one place. Health and DELETE are handled here, shape requests in `serve`.
State: only that of the parts, which `make_app` creates once.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pgshapes.errors import PgShapesError, RequestError, StaleTables
from pgshapes.gates.clients import Clients
from pgshapes.gates.conditions import Level, ServiceStatus
from pgshapes.http_api import headers
from pgshapes.http_api.answers import Answers
from pgshapes.http_api.body_cache import BodyCache
from pgshapes.http_api.disconnect import WaitingRequests
from pgshapes.http_api.error_responses import error_response
from pgshapes.http_api.headers import deletion_headers, health_headers
from pgshapes.http_api.live import HeldRequests, TailWaits
from pgshapes.http_api.params import parse_delete_request
from pgshapes.http_api.parsed_queries import ParsedQueries, ParsedQuery
from pgshapes.http_api.ports import Admission, Readiness, Shapes, Subsets
from pgshapes.http_api.reads import Reads
from pgshapes.http_api.request_bodies import RequestBodies
from pgshapes.http_api.response import Exchange, Receive, Response, ResponseAborted, Scope, Send
from pgshapes.http_api.serve import Lookup, ServeShape, check_authorized
from pgshapes.http_api.settings import HttpSettings
from pgshapes.http_api.sse import EventStreams
from pgshapes.limited_log import LimitedLog
from pgshapes.logs import get_logger
from pgshapes.model.shape import RawShape, ResolvedShape
from pgshapes.shape_log.store import LogReader

_HEALTH: Final = {
    ServiceStatus.ACTIVE: (200, b'{"status":"active"}'),
    ServiceStatus.WAITING: (202, b'{"status":"waiting"}'),
    ServiceStatus.STARTING: (202, b'{"status":"starting"}'),
}


def health_response(service_status: ServiceStatus, stream: tuple[str, str] = ("", "")) -> Response:
    """The response of `/v1/health`, for load balancers."""
    status, body = _HEALTH[service_status]
    return Response(status, health_headers(stream), body)


MISMATCH: Final = (
    "The specified shape definition and handle do not match. Please ensure the shape definition is correct or"
    " omit the shape handle from the request to obtain a new one."
)


@dataclass(frozen=True, slots=True)
class DeleteShape:
    """Handles DELETE `/v1/shape`."""

    shapes: Shapes
    readiness: Readiness
    settings: HttpSettings
    lookup: Lookup

    async def answer(self, scope: Scope, query: ParsedQuery) -> Response:
        """202 once the shape is removed. Raises RequestError, NotReady."""
        await self.readiness.wait_until(Level.ACTIVE, self.settings.ready_timeout_s)
        if not self.settings.allow_delete:
            raise RequestError("DELETE not allowed", status=405)
        request = parse_delete_request(query.parameters)
        await check_authorized(self.settings, scope, request.raw)
        handle = request.handle if request.raw is None else await self._find(request.raw, request.handle)
        if handle is None or not await self.shapes.delete(handle):
            raise RequestError("No existing shape found", status=404)
        await self.shapes.removed(handle)
        return Response(202, deletion_headers())

    async def _find(self, raw: RawShape, presented: str | None) -> str | None:
        shape = await self.lookup.resolve(raw)
        found = await self._find_handle(shape)
        if presented is None or presented == found:
            return found
        if await self.shapes.is_current(presented, shape):
            return presented
        if found is None:
            return None
        raise RequestError(MISMATCH)

    async def _find_handle(self, shape: ResolvedShape) -> str | None:
        while True:
            try:
                return self.shapes.find_handle(shape)
            except StaleTables:
                await self.readiness.wait_until(Level.ACTIVE, self.settings.ready_timeout_s)


log = get_logger(__name__)
failures: Final = LimitedLog(log)

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

UNAUTHORIZED: Final = b'{"message":"Unauthorized - Invalid API secret"}'


class Route(Enum):
    """The routes; the value is the normalised path."""

    ROOT = ""
    SHAPE = "v1/shape"
    HEALTH = "v1/health"


_METHODS: Final = {
    Route.ROOT: ("GET",),
    Route.SHAPE: ("GET", "POST", "DELETE", "OPTIONS"),
    Route.HEALTH: ("GET",),
}
_ROUTES: Final = {
    (method, f"/{route.value}"): route for route, methods in _METHODS.items() for method in methods
}


def find_route(path: str, method: str) -> Route | None:
    """The route of a decoded path and a method, ignoring empty segments; None if there is none."""
    route = _ROUTES.get((method, path))
    if route is not None:
        return route
    normalised = "/".join(segment for segment in path.split("/") if segment)
    return _ROUTES.get((method, f"/{normalised}"))


@dataclass(frozen=True, slots=True)
class ShapeApp:
    """The ASGI application that `make_app` returns."""

    settings: HttpSettings
    queries: ParsedQueries
    readiness: Readiness
    serving: ServeShape
    deletion: DeleteShape
    waiting: WaitingRequests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http":
            await self._answer(Exchange(scope, receive, send, is_shared=self.settings.authorize is None))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._route(exchange)
        except Exception as error:
            request_id = exchange.request_id.decode("latin-1")
            if exchange.has_begun:
                if not isinstance(error, PgShapesError):
                    raise
                failures.note("response ended early", error.code, error=error.message, request_id=request_id)
                raise ResponseAborted from error
            if not isinstance(error, PgShapesError):
                log.exception("request failed", request_id=request_id)
            elif not error.is_for_clients:
                cause = (error.code, error.details.get("sqlstate"))
                failures.note("request failed", cause, error=error.message, request_id=request_id)
            await exchange.answer(error_response(error, is_cacheable=exchange.is_cacheable))

    async def _route(self, exchange: Exchange) -> None:
        route = find_route(exchange.path, exchange.method)
        if route is Route.SHAPE:
            await self._shape(exchange)
        elif route is Route.HEALTH:
            await exchange.answer(health_response(self.readiness.service_status(), self.readiness.stream()))
        elif route is Route.ROOT:
            await exchange.answer(Response(200, [headers.uncached()]))
        else:
            await exchange.answer(Response(404, [headers.TEXT, headers.uncached()], b"Not found"))

    async def _shape(self, exchange: Exchange) -> None:
        exchange.methods = headers.SHAPE_METHODS
        if exchange.method == "OPTIONS":
            asked_for = exchange.request_headers.get(b"access-control-request-headers", [])
            await exchange.answer(Response(204, headers.preflight_headers(asked_for)))
            return
        query = self.queries.parse(exchange.query)
        if not self._is_authenticated(query):
            await exchange.answer_without_cors(401, UNAUTHORIZED)
        elif exchange.method == "DELETE":
            await self.waiting.run(self._delete(exchange, query), exchange)
        else:
            await self.serving.serve(exchange, query)

    async def _delete(self, exchange: Exchange, query: ParsedQuery) -> None:
        await exchange.answer(await self.deletion.answer(exchange.scope, query))

    def _is_authenticated(self, query: ParsedQuery) -> bool:
        secret = self.settings.secret
        if secret is None or self.settings.authorize is not None:
            return True
        return hmac.compare_digest((query.secret or "").encode(), secret.encode())


def make_app(
    shapes: Shapes,
    reader: LogReader,
    readiness: Readiness,
    admission: Admission,
    settings: HttpSettings,
    *,
    stopping: asyncio.Event,
    subsets: Subsets | None = None,
) -> ShapeApp:
    """The ASGI application. When `stopping` is set, it answers held requests at once."""
    waits = TailWaits(shapes, stopping)
    cache = BodyCache(reader, settings.body_cache_bytes)
    answers = Answers(settings)
    lookup = Lookup(shapes, readiness, settings)
    reads = Reads(shapes, cache, HeldRequests(waits, readiness, settings), answers)
    streams = EventStreams(reads, waits, cache, answers, settings)
    bodies, clients = RequestBodies(settings), Clients(settings.trusted_proxies)
    waiting = WaitingRequests()
    serving = ServeShape(
        shapes,
        readiness,
        admission,
        subsets,
        settings,
        lookup,
        reads,
        streams,
        answers,
        bodies,
        clients,
        waiting,
    )
    deletion = DeleteShape(shapes, readiness, settings, lookup)
    return ShapeApp(settings, ParsedQueries(), readiness, serving, deletion, waiting)
