"""The log of a shape, as its writer and its readers see it: the seam behind which a store lies.

The owner writes through `ShapeStore` and `ShapeLog`, callers read through `LogReader`; `file_store` is the
store in files. A further store is a sibling of it: the contract tests (`tests/contract/shape_log`) hold every
store to the same behaviour, and `wiring.py` chooses one.

What is written is readable at once by every process that knows the tail; it is durable only after `sync`. One
owner, one event loop: no two calls of a writer overlap.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail


class Entry(NamedTuple):
    """One log message: its offset and its JSON text, without separators."""

    offset: Offset
    json: bytes


class LogSlice(NamedTuple):
    """A piece of a log that answers one request."""

    body: bytes
    """Messages joined by `,`, without brackets; may be empty."""
    end: Offset
    """Offset of the last message covered: the chunk's end, or the tail's `latest`."""
    is_chunk_end: bool
    """Whether the slice stops at a closed chunk's end."""


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


class ShapeStore(Protocol):
    """The logs of all shapes, as the owner sees them."""

    def create(self, handle: str) -> ShapeLog:
        """A new, empty log; nothing is on the disk until something is written."""

    def get(self, handle: str) -> ShapeLog | None:
        """The log of a shape that was created or recovered, and not removed."""

    async def sync(self) -> None:
        """Make everything that any shape wrote before this call durable.

        Raises StorageError with `details["handles"]`: those shapes have lost data and refuse further
        writes; all others are durable.
        """

    async def sync_shape(self, handle: str) -> None:
        """The same for one shape. Raises StorageError."""

    async def remove(self, handles: Collection[str]) -> None:
        """Remove shapes, durably; unknown ones are taken off the disk if there. Raises StorageError."""

    async def empty_trash(self) -> None:
        """Delete the bytes of removed shapes; can be cut short and repeated at any time."""

    def recover(self, live: Collection[str], recorded_lsn: int) -> Mapping[str, ShapeLog]:
        """At start, before anything else: the logs of the shapes in `live`.

        Their transactions with a commit LSN below `recorded_lsn` were durable, and Postgres will not send
        them again; an acknowledged LSN means the same (the one that equals it is sent again). A live shape
        that is not in the answer is lost, and its directory removed, durably. Directories of shapes that
        are not live are put into the trash. Blocks.
        """

    async def close(self) -> None:
        """Wait for a running sync and close all files. Makes nothing durable."""


class LogReader(Protocol):
    """Bytes of snapshots and logs, in any process.

    A reader never reads past the tail that it is given. It may be slow: its caller must expect the shape to
    be retired while it waits. Raises StorageError when the bytes cannot be read.
    """

    async def read_snapshot_chunk(self, handle: str, number: int) -> bytes:
        """The complete response body of snapshot chunk `number` (`[…]`)."""

    async def read_log(self, handle: str, after: Offset, tail: Tail) -> LogSlice:
        """What follows `after`, up to the end of its chunk or to `tail.latest`."""
