"""Finds the shape definition and the handle for a request.

State: the keys of look-ups and creations that requests of this application have started. *Initial* permits
are for work: a request that finds its key in progress exchanges its permit for an *existing* one, then waits
for the other request's work. So any number of requests for one new shape hold one *initial* permit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable
from typing import TypeVar

from pgshapes.errors import UNVERIFIED_TEXT, NotNow, OwnerUnavailable, SourceError
from pgshapes.gates.conditions import Level
from pgshapes.http_api.decide import AskOwner, MustRefetch, ServeHandle, decide_identity
from pgshapes.http_api.params import ShapeRequest
from pgshapes.http_api.ports import Permit, Readiness, Shapes
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.shape import RawShape, ResolvedShape

_T = TypeVar("_T")


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
