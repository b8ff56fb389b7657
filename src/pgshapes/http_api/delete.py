"""DELETE `/v1/shape` (http-api §9). For tests and for operators; off unless the settings allow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgshapes.errors import RequestError
from pgshapes.gates.conditions import Level
from pgshapes.http_api.headers import deletion_headers
from pgshapes.http_api.lookup import Lookup
from pgshapes.http_api.params import parse_delete_request
from pgshapes.http_api.parsed_queries import ParsedQuery
from pgshapes.http_api.ports import Readiness, Shapes
from pgshapes.http_api.response import Response
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.shape import RawShape

MISMATCH: Final = (
    "The specified shape definition and handle do not match. Please ensure the shape definition is correct or"
    " omit the shape handle from the request to obtain a new one."
)


@dataclass(frozen=True, slots=True)
class DeleteShape:
    """Drops shapes on request."""

    shapes: Shapes
    readiness: Readiness
    settings: HttpSettings
    lookup: Lookup

    async def answer(self, query: ParsedQuery) -> Response:
        """202 once the shape is gone. Raises RequestError, NotReady."""
        await self.readiness.wait_until(Level.ACTIVE, self.settings.ready_timeout_s)
        if not self.settings.allow_delete:
            raise RequestError("DELETE not allowed", status=405)
        request = parse_delete_request(query.parameters)
        handle = request.handle if request.raw is None else await self._find(request.raw, request.handle)
        if handle is None or not await self.shapes.delete(handle):
            raise RequestError("No existing shape found", status=404)
        await self.shapes.removed(handle)
        return Response(202, deletion_headers())

    async def _find(self, raw: RawShape, presented: str | None) -> str | None:
        shape = await self.lookup.resolve(raw)
        found = self.shapes.find_handle(shape)
        if presented is None or presented == found:
            return found
        if await self.shapes.is_current(presented, shape):
            return presented
        if found is None:
            return None
        raise RequestError(MISMATCH)
