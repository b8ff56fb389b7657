"""What the HTTP API can be told. Not here: where the values come from (`config.py`, `wiring.py`)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from pgshapes.gates.time_limits import CREATION_TIMEOUT_S, READY_TIMEOUT_S
from pgshapes.model.shape import RawShape

Authorize = Callable[[MutableMapping[str, Any], RawShape | None], Awaitable[bool]]
"""Whether a request with this ASGI scope may have this definition, None for a DELETE by handle alone."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Frozen settings of one ASGI application."""

    secret: str | None = None
    """What `secret` must be equal to on `/v1/shape`; None lets everybody in."""
    authorize: Authorize | None = None
    """Decides on each request to `/v1/shape`, instead of the secret."""
    allow_delete: bool = False
    long_poll_timeout_ms: int = 20_000
    sse_timeout_ms: int = 60_000
    sse_keepalive_ms: int = 21_000
    """Silence on a stream is broken this often; below the 30 s after which proxies give up."""
    cache_max_age_s: int = 60
    cache_stale_age_s: int = 300
    ready_timeout_s: float = READY_TIMEOUT_S
    """How long a request waits for a service that is not ready."""
    create_timeout_s: float = CREATION_TIMEOUT_S
    snapshot_timeout_s: float = 60.0
    """How long a reader waits for the next snapshot chunk."""
    max_body_bytes: int = 8_000_000
    body_timeout_s: float = 30.0
    """How long a POST body may take to arrive: its sender holds a permit meanwhile."""
    body_cache_bytes: int = 64 * 2**20
    """Bodies kept for whoever asks next: a few full chunks of 10 MiB, or a great many long-poll answers."""
    clock: Callable[[], float] = time.time
    """Unix time in seconds; cursors are made of it."""

    @property
    def long_poll_timeout_s(self) -> float:
        """How long a live request is held."""
        return self.long_poll_timeout_ms / 1000

    @property
    def catch_up_timeout_s(self) -> float:
        """How long a request beyond the tail is held."""
        return self.long_poll_timeout_ms / 2000
