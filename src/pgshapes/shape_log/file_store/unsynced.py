"""What has been written and is not durable yet. Owner's event loop only; worker threads get a `Batch` of
plain paths.

Names need their directory synced: a file's name in the shape's directory, that in the directory of its
prefix, that in `shapes`. A directory of a prefix is shared, so it stays fresh until a sync of `shapes` has
succeeded, whoever asked.
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
    """What one shape has written since its last sync."""

    files: set[str] = field(default_factory=set)
    """Names in the shape's directory."""
    has_new_names: bool = False
    """Whether files were made in the shape's directory."""
    is_new: bool = False
    """Whether the shape's directory itself was made."""


@dataclass(slots=True)
class Batch:
    """Paths that one sync makes durable, each with the shapes that need it."""

    files: dict[str, str] = field(default_factory=dict)
    directories: dict[str, set[str]] = field(default_factory=dict)
    fresh_prefixes: frozenset[str] = frozenset()

    def sync(self, files: Files) -> dict[str, OSError]:
        """Make it durable, content before names. Returns the shapes that failed. Runs in a worker thread."""
        failed = {self.files[path]: error for path, error in files.sync_files(list(self.files)).items()}
        for path, error in files.sync_directories(list(self.directories)).items():
            failed.update(dict.fromkeys(self.directories[path], error))
        return failed

    def needs(self, directory: str, handle: str) -> None:
        """Note that `handle` is durable only when this directory is synced."""
        self.directories.setdefault(directory, set()).add(handle)


class Unsynced:
    """All shapes' pending writes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._logs: set[str] = set()
        """Shapes whose `log` and `log.index` have new content; apart, for one change can touch all shapes."""
        self._pending: dict[str, Pending] = {}
        self._fresh_prefixes: set[str] = set()

    def wrote_log(self, handle: str) -> None:
        """A shape's log and its index have new content."""
        self._logs.add(handle)

    def wrote(self, handle: str, name: str) -> None:
        """Another file of a shape has new content."""
        self._of(handle).files.add(name)

    def made_names(self, handle: str) -> None:
        """Files were made in a shape's directory."""
        self._of(handle).has_new_names = True

    def made_directory(self, handle: str, *, with_prefix: bool) -> None:
        """A shape's directory was made, and perhaps the directory of its prefix."""
        self._of(handle).is_new = True
        if with_prefix:
            self._fresh_prefixes.add(self._layout.prefix(handle))

    def forget(self, handle: str) -> None:
        """The shape is gone."""
        self._logs.discard(handle)
        self._pending.pop(handle, None)

    def take(self, handles: Iterable[str] | None) -> Batch:
        """What these shapes (None: all) have pending; writes from now on belong to the next batch."""
        batch = Batch(fresh_prefixes=frozenset(self._fresh_prefixes))
        wanted = self._logs | self._pending.keys() if handles is None else handles
        for handle in wanted:
            pending = self._pending.pop(handle, None) or Pending()
            if handle in self._logs:
                self._logs.remove(handle)
                pending.files |= LOG_FILES
            self._add(batch, handle, pending)
        return batch

    def done(self, batch: Batch, failed: Collection[str]) -> None:
        """A batch was synced, for all but these shapes."""
        if not batch.directories.get(self._layout.shapes, set(failed)).intersection(failed):
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
