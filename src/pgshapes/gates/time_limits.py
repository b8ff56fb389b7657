"""How long a request waits, where several parts have to agree on it."""

from __future__ import annotations

from typing import Final

READY_TIMEOUT_S: Final = 5.0
"""For a service that is not ready, and for an owner that is away."""
CREATION_TIMEOUT_S: Final = 30.0
"""For a shape that is being created."""
