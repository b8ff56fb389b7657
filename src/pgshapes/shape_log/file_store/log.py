"""One shape's log in the files `log` and `log.index`. Owner only; the only writer of these files.

Readable means: in the page cache and within `tail`. The tail changes only when a transaction ends, so
messages of an unfinished transaction are never served. Files are created by the first write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgshapes.errors import StorageError
from pgshapes.model.tail import Tail
from pgshapes.shape_log.file_store.files import Files, is_out_of_descriptors, storage_error
from pgshapes.shape_log.file_store.format import RECORD_BYTES, EndPosition, LogEnd, OpenRecord, draft
from pgshapes.shape_log.file_store.layout import INDEX, LOG, Layout
from pgshapes.shape_log.file_store.open_logs import OpenLogs
from pgshapes.shape_log.file_store.snapshot import FileSnapshotWriter
from pgshapes.shape_log.file_store.unsynced import Unsynced
from pgshapes.shape_log.store import Entry


@dataclass(slots=True, frozen=True)
class LogContext:
    """The objects that all logs of a store share."""

    files: Files
    layout: Layout
    unsynced: Unsynced
    open_logs: OpenLogs
    chunk_bytes: int


@dataclass(slots=True, frozen=True)
class RecoveredLog:
    """The intact part of a shape on the disk."""

    end: LogEnd
    snapshot_chunks: int

    @property
    def tail(self) -> Tail:
        """How far it can be read."""
        tail = Tail(snapshot_chunks=self.snapshot_chunks, is_snapshot_complete=True)
        return _tail_at(self.end, tail) if self.end.records else tail


class FileShapeLog:
    """A `ShapeLog` in a directory of its own."""

    __slots__ = (
        "_broken",
        "_context",
        "_end",
        "_finished",
        "_has_directory",
        "_has_log_files",
        "_index_file",
        "_log_file",
        "_open_record",
        "_snapshot",
        "handle",
        "open_index",
        "tail",
    )

    def __init__(self, handle: str, context: LogContext, recovered: RecoveredLog | None = None) -> None:
        self.handle = handle
        self.tail = Tail()
        self.open_index = -1
        self._context = context
        self._end = self._finished = LogEnd()
        self._open_record: OpenRecord | None = None
        self._log_file = self._index_file = -1
        self._has_directory = self._has_log_files = False
        self._snapshot: FileSnapshotWriter | None = None
        self._broken: StorageError | None = None
        if recovered is not None:
            self._resume(recovered)

    def append(self, entries: Sequence[Entry], *, ends_transaction: bool) -> None:
        if self._broken is not None:
            raise self._broken
        entries = self._new_entries(entries)
        if entries:
            self._write(entries, ends_transaction)
        elif ends_transaction and self._open_record is not None:
            self._write_ended(self._open_record)

    def start_snapshot(self) -> FileSnapshotWriter:
        if self._snapshot is not None or self.tail.snapshot_chunks:
            raise StorageError(f"shape {self.handle} already has a snapshot")
        self._snapshot = FileSnapshotWriter(self, self._context.files, self._context.chunk_bytes)
        return self._snapshot

    def ensure_directory(self) -> str:
        """The shape's directory, created if necessary. Raises DiskFull, StorageError."""
        layout, files, unsynced = (
            self._context.layout,
            self._context.files,
            self._context.unsynced,
        )
        if self._broken is not None:
            raise self._broken
        directory = layout.directory(self.handle)
        if not self._has_directory:
            try:
                unsynced.made_directory(
                    self.handle, with_prefix=files.make_directory(layout.prefix(self.handle))
                )
                files.make_directory(directory)
            except OSError as error:
                raise storage_error(error, directory) from error
            self._has_directory = True
        return directory

    def has_snapshot_chunk(self, number: int, *, is_last: bool) -> None:
        """Note that snapshot chunk `number` is written and can be read."""
        self.tail = self.tail._replace(snapshot_chunks=number + 1, is_snapshot_complete=is_last)

    def made_snapshot_file(self, name: str) -> None:
        """Note that a snapshot file is complete."""
        self._context.unsynced.made_names(self.handle)
        self._context.unsynced.wrote(self.handle, name)

    def close_with_error(self, error: StorageError) -> None:
        """Close all files; every further write raises `error`."""
        self._broken = error
        self._context.open_logs.release(self)
        if self._snapshot is not None:
            self._snapshot.close()

    def close_files(self) -> None:
        """Close the descriptors; the next append opens the files again."""
        log_file, index_file = self._log_file, self._index_file
        self._log_file = self._index_file = -1
        for descriptor in (log_file, index_file):
            if descriptor >= 0:
                self._context.files.close(descriptor)

    def _resume(self, recovered: RecoveredLog) -> None:
        self._has_directory = True
        self._has_log_files = recovered.end.records > 0
        self._end = self._finished = recovered.end
        self.tail = recovered.tail

    def _new_entries(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The entries that are not in the log yet. Removes an unfinished transaction that starts again."""
        if not entries:
            return entries
        first, last = entries[0].offset, self._end.last
        if first > last:
            if self._open_record is not None and first.tx != last.tx:
                raise ValueError(f"transaction {first.tx} starts before {last.tx} has ended")
            return entries
        if self._open_record is not None:
            self._truncate_to(self._finished)
            self._end, self._open_record = self._finished, None
        return [entry for entry in entries if entry.offset > self._end.last]

    def _write(self, entries: Sequence[Entry], ends_transaction: bool) -> None:
        end = self._end
        messages, records, new_end, open_record = draft(
            end, entries, self._context.chunk_bytes, ends_transaction=ends_transaction
        )
        self._write_files(messages, records, end)
        self._end, self._open_record = new_end, open_record
        if ends_transaction:
            self._publish()

    def _write_ended(self, record: OpenRecord) -> None:
        end = self._end
        self._write_files(b"", record.encode_ended(), end._replace(records=end.records - 1))
        self._open_record = None
        self._publish()

    def _publish(self) -> None:
        self._finished = self._end
        self.tail = _tail_at(self._end, self.tail)

    def _write_files(self, log: bytes, index: bytes, at: LogEnd) -> None:
        context = self._context
        try:
            if self._log_file < 0:
                self._open_files()
            if log:
                context.files.write_at(self._log_file, log, at.position)
            context.files.write_at(self._index_file, index, at.records * RECORD_BYTES)
        except OSError as error:
            self._truncate_to(self._end)
            raise storage_error(error, f"append to shape {self.handle}") from error
        finally:
            if self.open_index < 0:
                self.close_files()
        context.unsynced.wrote_log(self.handle)

    def _open_files(self) -> None:
        directory, context = self.ensure_directory(), self._context
        self._log_file = self.open_file(f"{directory}/{LOG}")
        self._index_file = self.open_file(f"{directory}/{INDEX}")
        if not self._has_log_files:
            self._has_log_files = True
            context.unsynced.made_names(self.handle)
        context.open_logs.admit(self)

    def open_file(self, path: str) -> int:
        """A descriptor for writing; closes the files of other logs if there is none left. Raises OSError."""
        context = self._context
        try:
            return context.files.open(path)
        except OSError as error:
            if not is_out_of_descriptors(error) or not context.open_logs.make_room():
                raise
            return context.files.open(path)

    def _truncate_to(self, to: LogEnd) -> None:
        """Truncate the files to `to`. After a failure no further write to the log is possible."""
        if not self._has_log_files:
            return
        directory = self._context.layout.directory(self.handle)
        try:
            self._context.files.truncate(f"{directory}/{LOG}", to.position)
            self._context.files.truncate(f"{directory}/{INDEX}", to.records * RECORD_BYTES)
        except OSError as error:
            # Damage whatever the reason: the files end with what does not belong to the log.
            broken = StorageError(f"restore shape {self.handle}: {error.strerror}", errno=error.errno)
            self.close_with_error(broken)
            raise broken from error


def _tail_at(end: LogEnd, before: Tail) -> Tail:
    """The tail after a transaction that ends at `end`."""
    _, _, chunks, is_complete, _ = before
    position = EndPosition(end.position, end.chunk_start)
    return Tail(end.last, end.chunk_bound, chunks, is_complete, position)
