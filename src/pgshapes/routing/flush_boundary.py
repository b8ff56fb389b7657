"""The LSN up to which the WAL may be acknowledged. Pure; owned by the replicator's loop.

Invariant: everything before the boundary has been appended, and no hold is before it. The caller makes the
appended bytes durable: it reads the boundary first, syncs, then records, then acknowledges.
"""

from __future__ import annotations

from pgshapes.model.lsn import Lsn


class FlushBoundary:
    """The processed end of the stream, limited by holds."""

    def __init__(self, start: Lsn) -> None:
        self._processed = start
        self._holds: dict[int, Lsn] = {}
        self._next_hold = 0

    @property
    def processed(self) -> Lsn:
        """End of the last transaction, or keepalive between transactions, that has been processed."""
        return self._processed

    def advance(self, end_lsn: Lsn) -> None:
        """Note that everything up to `end_lsn` has been appended to the logs."""
        self._processed = max(self._processed, end_lsn)

    def hold(self) -> int:
        """Exclude everything after the current end from acknowledgement until `release`.

        Returns the hold's number.
        """
        self._next_hold += 1
        self._holds[self._next_hold] = self._processed
        return self._next_hold

    def release(self, hold: int) -> None:
        """End a hold. Unknown numbers are ignored."""
        self._holds.pop(hold, None)

    def acknowledgeable(self) -> Lsn:
        """The LSN that may be acknowledged once everything appended so far is durable."""
        return min(self._holds.values(), default=self._processed)
