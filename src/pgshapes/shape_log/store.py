"""The interface of a log store.

The owner writes through `ShapeStore` and `ShapeLog`, callers read through `LogReader`. `file_store` is the
implementation in files. A second implementation goes beside it: the contract tests
(`tests/contract/shape_log`) apply to every store, and `wiring.py` chooses one.

Written data can be read at once by every process that knows the tail; it is durable only after `sync`. Calls
of the writer never overlap: they come from one event loop, the owner's.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail

ANY_SIZE: Final = sys.maxsize


class Entry(NamedTuple):
    """One log message: its offset, and its JSON text without separators."""

    offset: Offset
    json: bytes


class LogSlice(NamedTuple):
    """The part of a log that is the response to one request."""

    body: bytes
    """Messages separated by `,`, without brackets; empty if there are none, or more than was asked for."""
    end: Offset
    """Offset of the last message covered: the chunk's end, or the tail's `latest`."""
    is_chunk_end: bool
    """Whether the slice ends at the end of a closed chunk."""
    position: int = 0
    """Where the messages are in the log, for `read_part`."""
    size: int = 0
    """Bytes of the messages, also if `body` is empty."""


class SnapshotWriter(Protocol):
    """Writes a shape's snapshot once, in chunks; each complete chunk increments `tail.snapshot_chunks`."""

    def add_rows(self, rows: Sequence[bytes]) -> None:
        """Append rows, each a JSON text without separators. Raises DiskFull, StorageError."""

    def finish(self, snapshot_end: bytes) -> None:
        """Append the last message, in a new chunk if the last row closed one. Raises as `add_rows`."""


class ShapeLog(Protocol):
    """One shape's snapshot and log."""

    @property
    def tail(self) -> Tail:
        """How far the shape can be read; changes only at the end of a transaction."""

    def append(self, entries: Sequence[Entry], *, ends_transaction: bool) -> None:
        """Append messages of one transaction, which may take several calls.

        Offsets must increase. Entries at or before `tail.latest` are skipped. Messages of an unfinished
        transaction are removed when the same or an earlier transaction is appended again. `entries` may be
        empty at the end of a transaction. Raises DiskFull or StorageError, which leave the log as it was
        before the call; ValueError if offsets do not increase.
        """

    def start_snapshot(self) -> SnapshotWriter:
        """The writer of this shape's snapshot; may be called once per shape."""


class ShapeStore(Protocol):
    """The logs of all shapes, for the owner."""

    def create(self, handle: str) -> ShapeLog:
        """A new, empty log; the first write creates its files."""

    def get(self, handle: str) -> ShapeLog | None:
        """The log of a shape that was created or recovered and has not been removed; else None."""

    async def sync(self) -> None:
        """Make everything that was written before this call durable.

        Raises StorageError with `details["handles"]`: those shapes have lost data, and every further write
        to them fails; all others are durable.
        """

    async def sync_shape(self, handle: str) -> None:
        """Make one shape durable. Raises StorageError."""

    async def remove(self, handles: Collection[str]) -> None:
        """Remove shapes durably, including directories of unknown handles. Raises StorageError."""

    async def empty_trash(self) -> None:
        """Delete the files of removed shapes; can be interrupted and repeated at any time."""

    def recover(self, live: Collection[str], recorded_lsn: int) -> Mapping[str, ShapeLog]:
        """The logs of the shapes in `live`. Must be the first call after start; blocks.

        Their transactions with a commit LSN below `recorded_lsn` were durable, and Postgres does not send
        them again; a transaction at the acknowledged LSN is sent again. A live shape that is not in the
        result is lost, why is in `damage`, and its directory is removed durably. Directories of other shapes
        are moved to the trash.
        """

    @property
    def damage(self) -> Mapping[str, str]:
        """Why shapes were lost in the last `recover`, by handle."""

    async def close(self) -> None:
        """Wait for a running sync, then close all files. Syncs nothing."""


class LogReader(Protocol):
    """Reads snapshots and logs, in any process.

    A reader never reads past the given tail. A read may take time: the shape can be retired meanwhile. Raises
    StorageError if the data cannot be read. No step of a read holds the event loop longer for a large chunk
    than for a small one, unless a caller asks for all of it.
    """

    async def snapshot_chunk_size(self, handle: str, number: int) -> int:
        """The size in bytes of snapshot chunk `number`."""

    async def read_snapshot_chunk(self, handle: str, number: int) -> bytes:
        """The complete response body of snapshot chunk `number` (`[…]`)."""

    async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        """The messages after `after`, up to the end of their chunk or to `tail.latest`.

        If they are more than `most` bytes, they are only found: `read_part` reads them.
        """

    async def read_part(self, handle: str, chunk: int | None, position: int, size: int) -> bytes:
        """Bytes that were read or found before: of snapshot chunk `chunk`, or of the log if it is None.

        Raises StorageError if the shape has been removed.
        """
