"""The logs of all shapes in one directory: creation, sync, removal, recovery. Owner only.

Invariants:

* content is synced before names, and names before `sync` returns; only then may the LSN be recorded and
  acknowledged;
* a removal is a rename into the trash, whose old parent is synced before `remove` returns; the files are
  deleted later;
* recovery syncs what it keeps beyond the recorded LSN, because these transactions are skipped when Postgres
  sends them again, and every cut, because a field of a record may be divided by the end of a file, and would
  have another value if that end came back below what is appended.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from pgshapes.errors import StorageError, StorageFailing, StorageShortage
from pgshapes.shape_log.file_store.files import Files, RealFiles, is_shortage, storage_error
from pgshapes.shape_log.file_store.format import RECORD_BYTES
from pgshapes.shape_log.file_store.layout import INDEX, LOG, Layout, is_handle
from pgshapes.shape_log.file_store.log import FileShapeLog, LogContext
from pgshapes.shape_log.file_store.open_logs import OpenLogs
from pgshapes.shape_log.file_store.recovery import RecoveryPlan, plan_recovery
from pgshapes.shape_log.file_store.unsynced import Batch, Unsynced
from pgshapes.waiting.batch import BatchQueue
from pgshapes.waiting.run_in_thread import to_its_end


class FileShapeStore:
    """A `ShapeStore` in a directory. Owns every file in it."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        chunk_bytes: int,
        files: Files | None = None,
        max_open_files: int | None = None,
    ) -> None:
        layout = Layout(str(Path(root).absolute()))
        self._layout = layout
        self._files = files or RealFiles(layout.root)
        self._unsynced = Unsynced(layout)
        self._open_logs = OpenLogs(max_open_files)
        self._context = LogContext(self._files, layout, self._unsynced, self._open_logs, chunk_bytes)
        self._logs: dict[str, FileShapeLog] = {}
        self._lost: dict[str, StorageError] = {}
        self.damage: dict[str, str] = {}
        self._syncs: BatchQueue[str | None, None] = BatchQueue(self._sync_requested)
        self._make_root()

    def create(self, handle: str) -> FileShapeLog:
        if not is_handle(handle) or handle in self._logs:
            raise ValueError(f"not a new handle: {handle!r}")
        log = self._logs[handle] = FileShapeLog(handle, self._context)
        return log

    def get(self, handle: str) -> FileShapeLog | None:
        return self._logs.get(handle)

    async def sync(self) -> None:
        await self._syncs.request(None)
        if self._lost:
            raise StorageError(f"{len(self._lost)} shapes lost data", handles=sorted(self._lost))

    async def sync_shape(self, handle: str) -> None:
        await self._syncs.request(handle)
        if handle in self._lost:
            raise self._lost[handle]

    async def remove(self, handles: Collection[str]) -> None:
        for handle in handles:
            self._forget(handle)
        await to_its_end(self._trash_durably, handles)

    async def empty_trash(self) -> None:
        await to_its_end(self._empty_trash)

    def recover(self, live: Collection[str], recorded_lsn: int) -> dict[str, FileShapeLog]:
        self.damage.clear()
        on_disk = self._handles_on_disk()
        self._trash(on_disk.difference(live))
        plans: dict[str, RecoveryPlan] = {}
        for handle in live:
            plan = self._plan(handle, recorded_lsn)
            if plan is not None:
                plans[handle] = plan
        self._trash_durably([handle for handle in live if handle not in plans])
        self._cut_and_sync(plans)
        self._logs = {
            handle: FileShapeLog(handle, self._context, found.recovered) for handle, found in plans.items()
        }
        return dict(self._logs)

    def _plan(self, handle: str, recorded_lsn: int) -> RecoveryPlan | None:
        """What to keep of a shape; None if it is lost. Raises StorageShortage."""
        try:
            return plan_recovery(self._layout.directory(handle), recorded_lsn)
        except StorageError as error:
            # An error of the disk counts as damage: one unreadable shape must not prevent every start.
            if isinstance(error, StorageShortage) and not isinstance(error, StorageFailing):
                raise
            self.damage[handle] = error.message
            return None

    async def close(self) -> None:
        try:
            await self._syncs.idle()
        finally:
            self.close_files()

    def close_files(self) -> None:
        """Close all files now; every further write fails."""
        for log in self._logs.values():
            log.close_with_error(StorageError("the store is closed"))

    def _make_root(self) -> None:
        """Create the directories and sync them, even if an earlier process created them and was killed."""
        layout, files = self._layout, self._files
        for directory in (layout.root, layout.shapes, layout.trash):
            files.make_directory(directory)
        _check(files.sync_directories([str(Path(layout.root).parent), layout.root, layout.shapes]))

    async def _sync_requested(self, requests: tuple[str | None, ...]) -> dict[str | None, None]:
        """Sync once for a batch of requests, each for a handle or for all shapes (None)."""
        await self._sync_shapes(None if None in requests else [handle for handle in requests if handle])
        return {}

    async def _sync_shapes(self, handles: Iterable[str] | None) -> None:
        batch = self._unsynced.take(handles)
        if not batch.files and not batch.directories:
            return
        try:
            failed = await asyncio.to_thread(batch.sync, self._files)
        except BaseException as error:
            self._note_broken_sync(batch, error)
            raise
        self._unsynced.done(batch, failed)
        postponed = [handle for handle in failed if is_shortage(failed[handle])]
        for handle in (self._logs.keys() & failed.keys()) - set(postponed):
            self._mark_lost(handle, failed[handle])
        if postponed:
            self._unsynced.put_back(batch, self._logs.keys() & postponed)
            raise storage_error(failed[postponed[0]], f"sync {len(postponed)} shapes")

    def _note_broken_sync(self, batch: Batch, error: BaseException) -> None:
        """What was not synced must not count as synced in the next cycle. If the sync had begun, it may have
        failed for some of the shapes, and a second one would succeed without their data.
        """
        if not batch.has_begun:
            self._unsynced.put_back(batch, batch.taken.keys())
            return
        for handle in self._logs.keys() & batch.taken.keys():
            self._mark_lost(handle, OSError(errno.EIO, repr(error)))

    def _mark_lost(self, handle: str, error: OSError) -> None:
        """Fail a shape: after a failed sync the kernel may drop pages, and the next sync would succeed."""
        lost = StorageError(f"sync of shape {handle}: {error.strerror}", errno=error.errno)
        self._lost[handle] = lost
        self._logs[handle].close_with_error(lost)

    def _forget(self, handle: str) -> None:
        log = self._logs.pop(handle, None)
        if log is not None:
            log.close_with_error(StorageError(f"shape {handle} is removed"))
        self._unsynced.forget(handle)
        self._lost.pop(handle, None)

    def _trash_durably(self, handles: Iterable[str]) -> None:
        parents = self._trash(handles)
        if parents:
            _check(self._files.sync_directories(sorted(parents)))

    def _trash(self, handles: Iterable[str]) -> set[str]:
        """Move directories to the trash. Returns the parents to sync, also of those already moved."""
        parents = set()
        for handle in handles:
            prefix = self._layout.prefix(handle)
            try:
                self._files.rename(
                    self._layout.directory(handle), f"{self._layout.trash}/{handle}.{token_hex(4)}"
                )
            except FileNotFoundError:
                if not Path(prefix).is_dir():
                    continue
            except OSError as error:
                raise storage_error(error, f"remove shape {handle}") from error
            parents.add(prefix)
        return parents

    def _empty_trash(self) -> None:
        failed: OSError | None = None
        for path in Path(self._layout.trash).iterdir():
            try:
                self._files.remove_tree(str(path))
            except OSError as error:
                failed = error  # the others are deleted all the same
        if failed is not None:
            raise failed

    def _handles_on_disk(self) -> set[str]:
        try:
            prefixes = Path(self._layout.shapes).iterdir()
            return {path.name for prefix in prefixes for path in prefix.iterdir() if is_handle(path.name)}
        except OSError as error:
            raise storage_error(error, self._layout.shapes) from error

    def _cut_and_sync(self, plans: Mapping[str, RecoveryPlan]) -> None:
        paths: list[str] = []
        directories: list[str] = []
        for handle, found in plans.items():
            directory, end = self._layout.directory(handle), found.recovered.end
            sizes = {f"{directory}/{LOG}": end.position, f"{directory}/{INDEX}": end.records * RECORD_BYTES}
            if found.must_cut:
                self._cut(sizes)
            if found.must_sync:
                paths += [path for path in sizes if Path(path).exists()]
                directories.append(directory)
        _check(self._files.sync_files(paths))
        _check(self._files.sync_directories(directories))

    def _cut(self, sizes: Mapping[str, int]) -> None:
        for path, size in sizes.items():
            with suppress(FileNotFoundError):
                self._files.truncate(path, size)


def _check(failed: Mapping[str, OSError]) -> None:
    for path, error in failed.items():
        raise storage_error(error, f"sync {path}") from error
