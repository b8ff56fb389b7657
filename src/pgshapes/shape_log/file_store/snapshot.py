"""A shape's snapshot in the files `snapshot.0`, `snapshot.1`, …: each a complete response body, written once.

Owner only. Rows are written to the page cache as they arrive; a chunk can be read when it is complete. The
file of the last chunk ends with a newline, which is not part of the body: it distinguishes a complete
snapshot from one whose last chunks are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from pgshapes.errors import StorageError
from pgshapes.shape_log.file_store.files import Files, storage_error
from pgshapes.shape_log.file_store.format import RowChunker
from pgshapes.shape_log.file_store.layout import snapshot_name

END_MARK: Final = b"\n"
"""Follows the body in the file of a snapshot's last chunk."""


class SnapshotOwner(Protocol):
    """The log that the snapshot belongs to."""

    def ensure_directory(self) -> str:
        """The shape's directory."""

    def open_file(self, path: str) -> int:
        """A descriptor for writing."""

    def has_snapshot_chunk(self, number: int, *, is_last: bool) -> None:
        """Note that a chunk can be read."""

    def made_snapshot_file(self, name: str) -> None:
        """Note that a file is complete."""


class FileSnapshotWriter:
    """The `SnapshotWriter` of the file store. After an error every further write fails."""

    __slots__ = ("_chunker", "_file", "_files", "_is_closed", "_log", "_number", "_position")

    def __init__(self, log: SnapshotOwner, files: Files, chunk_bytes: int) -> None:
        self._log = log
        self._files = files
        self._chunker = RowChunker(chunk_bytes)
        self._number = 0
        self._file = -1
        self._position = 0
        self._is_closed = False

    def add_rows(self, rows: Sequence[bytes]) -> None:
        for run, closes_chunk in self._chunker.runs(rows):
            self._write(b",".join(run), b"]" if closes_chunk else b"")
            if closes_chunk:
                self._close_chunk(is_last=False)

    def finish(self, snapshot_end: bytes) -> None:
        self._write(snapshot_end, b"]" + END_MARK)
        self._close_chunk(is_last=True)
        self._is_closed = True

    def close(self) -> None:
        """Close the descriptor; every further write fails."""
        self._is_closed = True
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            self._files.close(descriptor)

    def _write(self, items: bytes, ending: bytes) -> None:
        if self._is_closed:
            raise StorageError("the snapshot is closed")
        with self._close_on_error():
            if self._file < 0:
                directory = self._log.ensure_directory()
                self._file = self._log.open_file(f"{directory}/{snapshot_name(self._number)}")
            data = b"".join((b"," if self._position else b"[", items, ending))
            self._files.write_at(self._file, data, self._position)
        self._position += len(data)

    def _close_chunk(self, *, is_last: bool) -> None:
        descriptor, self._file = self._file, -1
        with self._close_on_error():
            self._files.close(descriptor)
        self._log.made_snapshot_file(snapshot_name(self._number))
        self._log.has_snapshot_chunk(self._number, is_last=is_last)
        self._number += 1
        self._position = 0

    @contextmanager
    def _close_on_error(self) -> Iterator[None]:
        """Close the writer on an error: rows are missing, so no others may follow."""
        try:
            yield
        except OSError as error:
            self.close()
            raise storage_error(error, "write a snapshot") from error
        except StorageError:
            self.close()
            raise
