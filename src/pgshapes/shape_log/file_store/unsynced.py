"""Records what has been written and is not durable yet. Used in the owner's event loop only; worker threads
get a `Batch` of paths.

A name is durable when its directory is synced: a file's name in the shape's directory, that one's name in the
prefix directory, that one's name in `shapes`. A prefix directory is shared by shapes, so it remains *fresh*
until a sync of `shapes` has succeeded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from pgshapes.shape_log.file_store.files import Files
from pgshapes.shape_log.file_store.layout import INDEX, LOG, Layout

LOG_FILES: Final = frozenset((LOG, INDEX))


@dataclass(slots=True)
class Pending:
    """The writes of one shape since its last sync."""

    files: set[str] = field(default_factory=set)
    """Names in the shape's directory."""
    has_new_names: bool = False
    """Whether files were created in the shape's directory."""
    is_new: bool = False
    """Whether the shape's directory was created."""


@dataclass(slots=True)
class Batch:
    """The paths to sync, each with the shapes that need it."""

    files: dict[str, str] = field(default_factory=dict)
    directories: dict[str, set[str]] = field(default_factory=dict)
    fresh_prefixes: frozenset[str] = frozenset()
    taken: dict[str, Pending] = field(default_factory=dict)
    """What was pending, by handle."""
    has_begun: bool = False

    def sync(self, files: Files) -> dict[str, OSError]:
        """Sync content, then names. Returns the shapes that failed. Runs in a worker thread."""
        self.has_begun = True
        failed = {self.files[path]: error for path, error in files.sync_files(list(self.files)).items()}
        for path, error in files.sync_directories(list(self.directories)).items():
            failed.update(dict.fromkeys(self.directories[path], error))
        return failed

    def needs(self, directory: str, handle: str) -> None:
        """Note that the shape is durable only after this directory is synced."""
        self.directories.setdefault(directory, set()).add(handle)


class Unsynced:
    """The pending writes of all shapes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._logs: set[str] = set()
        """Shapes whose `log` and `log.index` have new content; apart, as one change can affect all shapes."""
        self._pending: dict[str, Pending] = {}
        self._fresh_prefixes: set[str] = set()

    def wrote_log(self, handle: str) -> None:
        """Note that a shape's log and index have new content."""
        self._logs.add(handle)

    def wrote(self, handle: str, name: str) -> None:
        """Note that another file of a shape has new content."""
        self._of(handle).files.add(name)

    def made_names(self, handle: str) -> None:
        """Note that files were created in a shape's directory."""
        self._of(handle).has_new_names = True

    def made_directory(self, handle: str, *, with_prefix: bool) -> None:
        """Note that a shape's directory was created, and possibly its prefix directory."""
        self._of(handle).is_new = True
        if with_prefix:
            self._fresh_prefixes.add(self._layout.prefix(handle))

    def forget(self, handle: str) -> None:
        """Remove a shape's pending writes."""
        self._logs.discard(handle)
        self._pending.pop(handle, None)

    def take(self, handles: Iterable[str] | None) -> Batch:
        """Remove and return the pending writes of these shapes (None: of all)."""
        batch = Batch(fresh_prefixes=frozenset(self._fresh_prefixes))
        wanted = self._logs | self._pending.keys() if handles is None else handles
        for handle in wanted:
            pending = self._pending.pop(handle, None) or Pending()
            if handle in self._logs:
                self._logs.remove(handle)
                pending.files |= LOG_FILES
            batch.taken[handle] = pending
            self._add(batch, handle, pending)
        return batch

    def put_back(self, batch: Batch, handles: Collection[str]) -> None:
        """Note again what a batch has of these shapes: it was not tried."""
        for handle in handles:
            taken = batch.taken[handle]
            pending = self._of(handle)
            pending.files |= taken.files
            pending.has_new_names |= taken.has_new_names
            pending.is_new |= taken.is_new

    def done(self, batch: Batch, failed: Collection[str]) -> None:
        """Note that a batch was synced, except for these shapes."""
        needed_by = batch.directories.get(self._layout.shapes)
        if needed_by is not None and not needed_by.intersection(failed):
            self._fresh_prefixes -= batch.fresh_prefixes

    def _add(self, batch: Batch, handle: str, pending: Pending) -> None:
        directory, prefix = self._layout.directory(handle), self._layout.prefix(handle)
        batch.files.update({f"{directory}/{name}": handle for name in pending.files})
        if pending.has_new_names:
            batch.needs(directory, handle)
        if pending.is_new:
            batch.needs(prefix, handle)
            if prefix in self._fresh_prefixes:
                batch.needs(self._layout.shapes, handle)

    def _of(self, handle: str) -> Pending:
        pending = self._pending.get(handle)
        if pending is None:
            pending = self._pending[handle] = Pending()
        return pending
