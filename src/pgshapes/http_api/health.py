"""`GET /v1/health` (http-api §8.1)."""

from __future__ import annotations

from typing import Final

from pgshapes.gates.conditions import ServiceStatus
from pgshapes.http_api.headers import health_headers
from pgshapes.http_api.response import Response

_STATES: Final = {
    ServiceStatus.ACTIVE: (200, b'{"status":"active"}'),
    ServiceStatus.SLEEPING: (200, b'{"status":"active"}'),
    ServiceStatus.WAITING: (202, b'{"status":"waiting"}'),
    ServiceStatus.STARTING: (202, b'{"status":"starting"}'),
}


def health_response(word: ServiceStatus) -> Response:
    """How the service is, for load balancers."""
    status, body = _STATES[word]
    return Response(status, health_headers(), body)
