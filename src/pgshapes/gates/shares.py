"""The share that one client may have of something limited: connections, permits, bytes of bodies.

A client may hold at most `PER_FREE` times as much as is free. So a client that is alone gets three quarters,
n equally greedy ones get 3/(3n + 1) each, and there is always something left for a client that holds nothing.
Nobody is restricted while there is plenty.

State: `SharedBytes` has the bytes that are held, in all and by client; used in one event loop.
"""

from __future__ import annotations

from typing import Final

PER_FREE: Final = 3


def may_take(held: int, taken: int, limit: int, size: int = 1) -> bool:
    """Whether a client that holds `held` may take `size` more, when all clients together hold `taken`."""
    return held + size <= PER_FREE * (limit - taken)


class SharedBytes:
    """Memory of limited size that clients share."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.held_bytes = 0
        self._by_client: dict[str, int] = {}

    def take(self, client: str | None, size: int) -> bool:
        """Count bytes of a client (None: it has no share); False if there is no room for them."""
        held = 0 if client is None else self._by_client.get(client, 0)
        if self.held_bytes + size > self._limit:
            return False
        if client is not None and not may_take(held, self.held_bytes, self._limit, size):
            return False
        self.held_bytes += size
        if client is not None:
            self._by_client[client] = held + size
        return True

    def give_back(self, client: str | None, size: int) -> None:
        """Count bytes less."""
        self.held_bytes -= size
        if client is not None:
            left = self._by_client[client] - size
            if left:
                self._by_client[client] = left
            else:
                del self._by_client[client]
