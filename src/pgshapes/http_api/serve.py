"""Handles GET and POST `/v1/shape`, from admission to the end of the response.

The rules are in `decide`, reading is in `reads`, streams are in `sse`. Invariant: the permit is held until
the response has been sent, and is always released, immediately if the client disconnects.

State: the keys of look-ups and creations that requests of this application have started. *Initial* permits
are for work: a request that finds its key in progress exchanges its permit for an *existing* one, then waits
for the other request's work. So any number of requests for one new shape hold one *initial* permit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from pgshapes.errors import (
    UNVERIFIED_TEXT,
    NotNow,
    OwnerUnavailable,
    RequestError,
    SchemaChanged,
    SourceError,
    StaleTables,
)
from pgshapes.gates.admission import Kind
from pgshapes.gates.clients import FORWARDED, Clients
from pgshapes.gates.conditions import Level
from pgshapes.http_api.answers import Answers, ResolvedRequest
from pgshapes.http_api.decide import AskOwner, MustRefetch, ServeHandle, decide_identity
from pgshapes.http_api.disconnect import WaitingRequests
from pgshapes.http_api.error_responses import refetch_response
from pgshapes.http_api.parameters import parse_body
from pgshapes.http_api.params import ShapeRequest
from pgshapes.http_api.parsed_queries import ParsedQuery
from pgshapes.http_api.ports import Admission, Permit, Readiness, Shapes, Subsets
from pgshapes.http_api.reads import Reads
from pgshapes.http_api.request_bodies import IncomingBody, RequestBodies
from pgshapes.http_api.response import Exchange, Response, Scope
from pgshapes.http_api.settings import HttpSettings
from pgshapes.http_api.sse import EventStreams
from pgshapes.http_api.subset_params import parse_subset, used_of_subset
from pgshapes.model.shape import RawShape, ResolvedShape, Subset

_T = TypeVar("_T")

_ATTEMPTS: Final = 4
"""How often a request is begun again while DDL or TRUNCATE on its table is under way."""


Found = tuple[ResolvedShape, str]
"""A checked definition, and the handle to serve."""


class Lookup:
    """Finds shapes and handles for the requests of one application."""

    def __init__(self, shapes: Shapes, readiness: Readiness, settings: HttpSettings) -> None:
        self._shapes = shapes
        self._readiness = readiness
        self._settings = settings
        self._in_progress: set[Hashable] = set()

    async def resolve(self, raw: RawShape, permit: Permit | None = None) -> ResolvedShape:
        """The checked definition. Raises RequestError, NotNow, SchemaChanged."""
        try:
            return await self._run_or_join(raw, self._shapes.resolve(raw), permit)
        except OwnerUnavailable:
            raise
        except SourceError as error:
            raise NotNow(UNVERIFIED_TEXT, retry_after_s=1) from error

    async def find(self, request: ShapeRequest, permit: Permit) -> Found | MustRefetch:
        """The checked definition and the handle to serve; creates the shape if needed.

        Raises RequestError, NotNow, SchemaChanged.
        """
        try:
            shape = await self.resolve(request.raw, permit)
            decision = await self.identify(request, shape, permit)
        except RequestError:
            if request.handle is None or request.subset is not None:
                raise
            if await self._shapes.is_in_use(request.handle):
                raise
            # The client follows a shape that was accepted and has ended. Clients refetch after a 409, but
            # give up after a 400: that is for their next first request.
            await self._shapes.removed(request.handle)
            return MustRefetch()
        return (shape, decision.handle) if isinstance(decision, ServeHandle) else decision

    async def identify(
        self, request: ShapeRequest, shape: ResolvedShape, permit: Permit
    ) -> ServeHandle | MustRefetch:
        """The handle to serve; creates the shape if needed. MustRefetch if the client has another handle."""
        presented = request.handle
        decision = decide_identity(presented, self._shapes.find_handle(shape))
        if isinstance(decision, ServeHandle):
            return decision
        if isinstance(decision, AskOwner) and presented is not None:
            if await self._shapes.is_current(presented, shape):
                return ServeHandle(presented)
            if not self._shapes.is_known(presented):
                await self._shapes.removed(presented)
        right = await self._find_or_create(shape, permit)
        return ServeHandle(right) if presented in (None, right) else MustRefetch(right)

    async def _find_or_create(self, shape: ResolvedShape, permit: Permit) -> str:
        found = self._shapes.find_handle(shape)
        if found is not None:
            return found
        if self._readiness.level() is not Level.ACTIVE:
            permit.swap_to_existing()
            await self._readiness.wait_until(Level.ACTIVE, self._settings.ready_timeout_s)
        creation = self._shapes.get_or_create_shape_handle(shape, self._settings.create_timeout_s)
        handle, _ = await self._run_or_join(shape.comparable, creation, permit)
        return handle

    async def _run_or_join(self, key: Hashable, work: Awaitable[_T], permit: Permit | None) -> _T:
        if key in self._in_progress:
            if permit is not None:
                permit.swap_to_existing()
            return await work
        self._in_progress.add(key)
        try:
            return await work
        finally:
            self._in_progress.discard(key)


FORBIDDEN: Final = "Not authorized for this shape"


@dataclass(frozen=True, slots=True)
class ServeShape:
    """Serves shapes for one application. It has no state of its own."""

    shapes: Shapes
    readiness: Readiness
    admission: Admission
    subsets: Subsets | None
    settings: HttpSettings
    lookup: Lookup
    reads: Reads
    streams: EventStreams
    answers: Answers
    bodies: RequestBodies
    clients: Clients
    waiting: WaitingRequests

    async def serve(self, exchange: Exchange, query: ParsedQuery) -> None:
        """Answer one request. Raises PgShapesError before anything is sent."""
        peer = exchange.scope.get("client")
        client = None if peer is None else self.clients.of_address(peer[0])
        if client is None and FORWARDED in exchange.request_headers:
            client = self._forwarded_client(exchange)
        exchange.client = client
        body = self.bodies.open(client) if exchange.method == "POST" else None
        try:
            if body is not None:
                await body.receive(exchange.receive)
            is_existing = query.handle is not None and self.shapes.is_known(query.handle)
            permit = self.admission.acquire(Kind.EXISTING if is_existing else Kind.INITIAL, client)
            try:
                await self.waiting.run(self._answer(exchange, query, body, permit), exchange)
            finally:
                permit.release()
        finally:
            if body is not None:
                body.release()

    def _forwarded_client(self, exchange: Exchange) -> str | None:
        address = exchange.scope["client"][0] if exchange.scope.get("client") else ""
        return self.clients.of_request(address, exchange.request_headers[FORWARDED])

    async def _answer(
        self, exchange: Exchange, query: ParsedQuery, body: IncomingBody | None, permit: Permit
    ) -> None:
        if body is None:
            await self._pass_readiness(permit)
            request = query.request()
        else:
            request = await self._request_with(body, query, permit)
        await check_authorized(self.settings, exchange.scope, request.raw)
        attempts = 0
        while True:
            found: Found | MustRefetch | None = None
            try:
                subset = None if request.subset is None else await self._subset_of(request, permit)
                found = await self.lookup.find(request, permit)
                permit.swap_to_existing()
                await self._answer_found(exchange, request, subset, found)
                return
            except StaleTables:
                await self._pass_readiness(permit)
            except SchemaChanged as error:
                attempts += 1
                if found is not None and request.handle is not None:
                    raise
                if attempts == _ATTEMPTS:  # raised here: kept, the error and this frame would keep each other
                    raise NotNow(f"{error.client_text}; please retry", retry_after_s=1) from error

    async def _answer_found(
        self, exchange: Exchange, request: ShapeRequest, subset: Subset | None, found: Found | MustRefetch
    ) -> None:
        """Answer one request. Raises SchemaChanged, before anything is sent, if the shape has changed or
        ended and the client has no handle for which a 409 could be sent.
        """
        if isinstance(found, MustRefetch):
            await exchange.answer(refetch_response(found.handle, is_cacheable=exchange.is_cacheable))
            return
        resolved = ResolvedRequest(
            request,
            *found,
            [value.decode("latin-1") for value in exchange.request_headers.get(b"if-none-match", ())],
            exchange.is_cacheable,
        )
        if subset is not None:
            await exchange.answer(await self._subset_response(resolved, subset))
        elif request.is_sse:
            await self.streams.serve(exchange, resolved)
        else:
            await exchange.answer(await self.reads.respond(resolved))

    async def _request_with(self, body: IncomingBody, query: ParsedQuery, permit: Permit) -> ShapeRequest:
        """The typed request of a POST. Its errors come after those of readiness, but the body, which takes
        much more memory when it is parsed, is not kept until then. Raises RequestError, NotReady.
        """
        request = await self.bodies.parse(body, partial(_typed, query))
        if isinstance(request, RequestError) or request.subset is None:
            body.release()
        await self._pass_readiness(permit)
        if isinstance(request, RequestError):
            try:
                raise request
            finally:
                del request  # or the error would keep this frame, and this frame the error
        return request

    async def _pass_readiness(self, permit: Permit) -> None:
        if self.readiness.level() not in (Level.ACTIVE, Level.READ_ONLY):
            permit.swap_to_existing()
            await self.readiness.wait_until(Level.READ_ONLY, self.settings.ready_timeout_s)

    async def _subset_of(self, request: ShapeRequest, permit: Permit) -> Subset:
        await self.lookup.resolve(request.raw, permit)  # its errors come before those of the subset
        subset = parse_subset(request.subset)
        if self.subsets is None:
            raise RequestError.field("subset", "subset snapshots are not supported by this server")
        return subset

    async def _subset_response(self, resolved: ResolvedRequest, subset: Subset) -> Response:
        assert self.subsets is not None, "_check_subset has checked this"
        resume = self.reads.resume_offset(resolved)
        if resume is None:
            return await self.reads.refetch_after_removal(resolved)
        body = await self.subsets.subset(resolved.request.raw, resolved.shape, subset, resume)
        if self.shapes.tail(resolved.handle) is None:
            return await self.reads.refetch_after_removal(resolved)
        return self.answers.of_subset(resolved, resume, body)


def _typed(query: ParsedQuery, body: bytes) -> ShapeRequest | RequestError:
    """The request or its error; of a subset, which is unchecked, only what is used is kept."""
    try:
        request = query.request_with(parse_body(body))
    except RequestError as error:
        return error.with_traceback(None)  # whose frames have the whole body
    return replace(request, subset=used_of_subset(request.subset))


async def check_authorized(settings: HttpSettings, scope: Scope, raw: RawShape | None) -> None:
    """Call `settings.authorize` if it is set. Raises RequestError with status 403 if it returns False."""
    if settings.authorize is not None and not await settings.authorize(scope, raw):
        raise RequestError(FORBIDDEN, status=403)
