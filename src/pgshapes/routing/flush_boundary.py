"""Up to where the WAL may be acknowledged. Pure; owned by the replicator's one loop.

Invariant: an LSN is offered only when everything before it has been appended and nothing before it is held.
Whether the appended bytes are durable is the caller's business: it takes the boundary first, syncs, then
records, then acknowledges.
"""

from __future__ import annotations

from pgshapes.model.lsn import Lsn


class FlushBoundary:
    """The processed end of the stream, less what is held back."""

    def __init__(self, start: Lsn) -> None:
        self._processed = start
        self._holds: dict[int, Lsn] = {}
        self._next_hold = 0

    @property
    def processed(self) -> Lsn:
        """End of the last transaction, or keepalive between transactions, that has been worked off."""
        return self._processed

    def advance(self, end_lsn: Lsn) -> None:
        """All up to `end_lsn` has been appended to the logs that it concerns."""
        self._processed = max(self._processed, end_lsn)

    def hold(self) -> int:
        """Keep everything after the present end from being acknowledged until `release`; returns the hold's
        number.
        """
        self._next_hold += 1
        self._holds[self._next_hold] = self._processed
        return self._next_hold

    def release(self, hold: int) -> None:
        """End a hold. Unknown numbers are ignored."""
        self._holds.pop(hold, None)

    def acknowledgeable(self) -> Lsn:
        """The LSN that may be acknowledged once all that is appended now is durable."""
        return min(self._holds.values(), default=self._processed)
