"""Writes what routing decided to the shapes' logs, then publishes the new tails.

The one writer of `tails` and `progress`. A log that cannot be written ends its shape and no other; a full
disk stops everything, with nothing lost: what has not been written yet stays here until there is room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from pgshapes.errors import DiskFull, StorageError
from pgshapes.model.lsn import Lsn
from pgshapes.routing.router import Append, Routed
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.tables import LAST_SEEN_LSN, Tables


class LogPublisher:
    """The end of the change path. `on_ended` is told of shapes that must go."""

    def __init__(
        self, store: ShapeStore, tables: Tables, on_ended: Callable[[Iterable[str], str], object]
    ) -> None:
        self._store = store
        self._tables = tables
        self._on_ended = on_ended
        self._unwritten: deque[Append] = deque()

    @property
    def is_stuck(self) -> bool:
        """Whether appends wait for room on the disk."""
        return bool(self._unwritten)

    def publish(self, routed: Routed, *, seen_lsn: Lsn | None = None) -> None:
        """Append, then make readable what ends a transaction. Raises DiskFull; `retry` then goes on."""
        self._unwritten.extend(routed.appends)
        with self._tables.transaction():
            self.retry()
            if seen_lsn is not None and seen_lsn > (self._tables.progress.get(LAST_SEEN_LSN) or 0):
                self._tables.progress.put(LAST_SEEN_LSN, seen_lsn)
        if routed.ended:
            self._on_ended(routed.ended, "truncated")

    def retry(self) -> None:
        """Write what is left to write. Raises DiskFull."""
        while self._unwritten:
            append = self._unwritten[0]
            try:
                self._write(append)
            except DiskFull:
                raise
            except StorageError as error:
                self._on_ended([append.handle], error.message)
            self._unwritten.popleft()

    def publish_tail(self, handle: str) -> None:
        """Make readable what a shape's log has."""
        log = self._store.get(handle)
        if log is not None:
            self._tables.tails.put(handle, log.tail)

    def _write(self, append: Append) -> None:
        log = self._store.get(append.handle)
        if log is None:
            return
        log.append(append.entries, ends_transaction=append.ends_transaction)
        if append.ends_transaction:
            self._tables.tails.put(append.handle, log.tail)
