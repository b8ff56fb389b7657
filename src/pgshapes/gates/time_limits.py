"""Time limits of requests that several parts of the program use."""

from __future__ import annotations

from typing import Final

READY_TIMEOUT_S: Final = 5.0
"""How long a request waits for a service that is not ready, or for an owner that is not connected."""
CREATION_TIMEOUT_S: Final = 30.0
"""How long a request waits for a shape that is being created."""
