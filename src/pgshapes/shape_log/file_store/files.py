"""The file seam: every operation on the disk that matters for durability goes through `Files`.

Not a general file API: reading is done with plain `os` calls, because a read cannot lose anything. Writes
go to the page cache and are readable at once by every process; only `sync_files` makes content durable, and
only `sync_directories` makes names durable. The test twin, `tests/support/storage/forgetful_files.py`, loses
what was not synced.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from pgshapes.errors import DiskFull, StorageError

SYNC_FILE_SYSTEM_FROM: Final = 16
"""From here on one `syncfs` is cheaper: on ext4 20 new shapes take 15 ms one by one and 1.3 ms at once."""

_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
_OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE))


class Files(Protocol):
    """What the shape log does to a disk. Paths are absolute; errors are OSError."""

    def make_directory(self, path: str) -> bool:
        """Make one directory; False when it is there. Its name is durable once its parent is synced."""

    def open(self, path: str) -> int:
        """A descriptor for writing; the file is made, empty, when it is missing."""

    def write_at(self, descriptor: int, data: bytes, position: int) -> None:
        """Write all of `data` to the page cache. After an error some of it may be in the file."""

    def close(self, descriptor: int) -> None:
        """Give a descriptor back. Makes nothing durable."""

    def truncate(self, path: str, size: int) -> None:
        """Cut a file to `size` bytes."""

    def rename(self, old: str, new: str) -> None:
        """Move a directory. The old name is durably gone once its parent is synced."""

    def remove_tree(self, path: str) -> None:
        """Delete a directory and all that is in it; nothing happens when it is missing."""

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        """Make the content of these files durable. Returns those that failed. From worker threads."""

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        """Make the names in these directories durable. Returns those that failed. From worker threads."""


class RealFiles:
    """`Files` on the operating system. Owns one descriptor, of a directory on the file system that it syncs.

    That descriptor stays open because `syncfs` reports, once, the write errors since its descriptor was
    opened.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._descriptor = -1
        self._opening = threading.Lock()

    def make_directory(self, path: str) -> bool:
        try:
            os.mkdir(path, 0o700)  # noqa: PTH102 - hot: one per shape
        except FileExistsError:
            return False
        return True

    def open(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write_at(self, descriptor: int, data: bytes, position: int) -> None:
        written = os.pwrite(descriptor, data, position)
        while written != len(data):
            written += os.pwrite(descriptor, memoryview(data)[written:], position + written)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)

    def rename(self, old: str, new: str) -> None:
        Path(old).rename(new)

    def remove_tree(self, path: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(path)

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        if len(paths) >= SYNC_FILE_SYSTEM_FROM and self._sync_file_system():
            return {}
        return self._sync_each(paths, _sync_content)

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        if len(paths) >= SYNC_FILE_SYSTEM_FROM and self._sync_file_system():
            return {}
        return self._sync_each(paths, os.fsync)

    def _sync_each(self, paths: Sequence[str], sync: Callable[[int], None]) -> dict[str, OSError]:
        failed: dict[str, OSError] = {}
        for path in paths:
            try:
                _sync_path(path, sync)
            except OSError as error:
                if error.errno not in _OUT_OF_DESCRIPTORS or not self._sync_file_system():
                    failed[path] = error
        return failed

    def _sync_file_system(self) -> bool:
        """Whether all of the file system is durable now; False if that failed or there is no such call."""
        if _syncfs is None:
            return False
        with self._opening:
            if self._descriptor < 0:
                self._descriptor = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        return bool(_syncfs(self._descriptor) == 0)


def storage_error(error: OSError, what: str) -> StorageError:
    """What an OSError means for a shape: the disk is full (nothing is lost), or its files cannot be used."""
    kind = DiskFull if error.errno in _FULL else StorageError
    return kind(f"{what}: {error.strerror or error}", errno=error.errno)


def is_out_of_descriptors(error: OSError) -> bool:
    """Whether the process (or the system) has no descriptor left."""
    return error.errno in _OUT_OF_DESCRIPTORS


def _sync_path(path: str, sync: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


_sync_content: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
