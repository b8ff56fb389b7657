"""The settings of the HTTP API; `wiring.py` makes them from those in `config.py`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from pgshapes.gates.clients import Network
from pgshapes.gates.time_limits import CREATION_TIMEOUT_S, READY_TIMEOUT_S
from pgshapes.model.shape import RawShape

Authorize = Callable[[MutableMapping[str, Any], RawShape | None], Awaitable[bool]]
"""Returns whether a request with this ASGI scope may be answered for this definition.

The definition is None for a DELETE by handle alone.
"""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The settings of one ASGI application."""

    secret: str | None = field(default=None, repr=False)
    """The value that requests to `/v1/shape` must send as `secret`; None allows all requests."""
    authorize: Authorize | None = None
    """Authorizes each request to `/v1/shape`; if it is set, the secret is not checked."""
    allow_delete: bool = False
    long_poll_timeout_ms: int = 20_000
    sse_timeout_ms: int = 60_000
    sse_keepalive_ms: int = 21_000
    """Interval of keep-alive comments on an idle stream; below the idle timeout of common proxies, 30 s."""
    cache_max_age_s: int = 60
    cache_stale_age_s: int = 300
    ready_timeout_s: float = READY_TIMEOUT_S
    """How long a request waits for a service that is not ready."""
    create_timeout_s: float = CREATION_TIMEOUT_S
    snapshot_timeout_s: float = 60.0
    """How long a reader waits for the next snapshot chunk."""
    max_body_bytes: int = 8_000_000
    body_timeout_s: float = 30.0
    """How long receiving a POST body may take."""
    bodies_bytes: int = 16 * 2**20
    """Size of the bodies that all requests together may hold."""
    trusted_proxies: tuple[Network, ...] = ()
    """Proxies whose `x-forwarded-for` says for which client a request counts."""
    body_cache_bytes: int = 64 * 2**20
    """Size of the body cache: a few full chunks of 10 MiB, or many long-poll responses."""
    clock: Callable[[], float] = time.time
    """Returns Unix time in seconds; cursors are computed from it."""

    @property
    def long_poll_timeout_s(self) -> float:
        """How long a live request is held."""
        return self.long_poll_timeout_ms / 1000

    @property
    def catch_up_timeout_s(self) -> float:
        """How long a request beyond the tail is held."""
        return self.long_poll_timeout_ms / 2000
