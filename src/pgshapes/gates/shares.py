"""The share that one client may have of something limited: connections, permits, bytes of bodies. Pure.

A client may hold at most `PER_FREE` times as much as is free. So a client that is alone gets three quarters,
n equally greedy ones get 3/(3n + 1) each, and there is always something left for a client that holds nothing.
No list of clients is needed, and nobody is restricted while there is plenty.
"""

from __future__ import annotations

from typing import Final

PER_FREE: Final = 3


def may_take(held: int, taken: int, limit: int, size: int = 1) -> bool:
    """Whether a client that holds `held` may take `size` more, when all clients together hold `taken`."""
    return held + size <= PER_FREE * (limit - taken)
