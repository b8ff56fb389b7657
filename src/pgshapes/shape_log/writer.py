"""What the owner writes a shape's rows and changes through. Implementations: `file_log`, `memory`.

Everything written is readable at once by every process that knows the tail; it is durable only after the
store's `sync` (store.py). One owner, one event loop: no two calls overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pgshapes.model.tail import Tail
from pgshapes.shape_log.entry import Entry


class SnapshotWriter(Protocol):
    """Writes a shape's snapshot once, in chunks; `tail.snapshot_chunks` grows with each complete chunk."""

    def add_rows(self, rows: Sequence[bytes]) -> None:
        """Append rows, each a ready JSON text without separators. Raises DiskFull, StorageError."""

    def finish(self, snapshot_end: bytes) -> None:
        """Append the last message, alone in a new chunk if the last row closed one. Raises as `add_rows`."""


class ShapeLog(Protocol):
    """One shape's snapshot and log."""

    @property
    def tail(self) -> Tail:
        """How far the shape can be read; moves only at the end of a transaction."""

    def append(self, entries: Sequence[Entry], *, ends_transaction: bool) -> None:
        """Append messages of one transaction, which may come in several calls.

        Offsets grow. What is there already is skipped: entries at or before `tail.latest`. Messages of a
        transaction that has not ended are dropped when the same or an earlier transaction is told again.
        `entries` may be empty when the transaction has no more of them. Raises DiskFull or StorageError,
        with the log as it was before the call; ValueError when offsets do not grow.
        """

    def start_snapshot(self) -> SnapshotWriter:
        """The writer of this shape's snapshot; once per shape."""
