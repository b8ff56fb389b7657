"""`Files` that fail while a test says so.

A test makes the file `<directory>/<failure>`; as long as it exists, the operations of that failure raise. A
write that fails has written a part before, as a full disk does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

from pgshapes.shape_log.file_store.files import Files


class Failure(Enum):
    """What a disk does."""

    FULL = "full"
    """No room for bytes and names."""
    BROKEN = "broken"
    """EIO for everything that writes or syncs."""
    BROKEN_SYNC = "broken_sync"
    """EIO for syncs only."""
    LOG_FULL = "log_full"
    """No room for the log of the server."""


_ERRNO = {
    Failure.FULL: errno.ENOSPC,
    Failure.BROKEN: errno.EIO,
    Failure.BROKEN_SYNC: errno.EIO,
    Failure.LOG_FULL: errno.ENOSPC,
}
_WRITING = (Failure.FULL, Failure.BROKEN)
_CHANGING = (Failure.BROKEN,)
_SYNCING = (Failure.BROKEN, Failure.BROKEN_SYNC)


class FaultyFiles:
    """Wraps other `Files`."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._paths = {failure: str(directory / failure.value) for failure in Failure}
        self.close = files.close

    def make_directory(self, path: str) -> bool:
        self._check(_WRITING)
        return self._files.make_directory(path)

    def open(self, path: str) -> int:
        if not os.path.exists(path):  # noqa: PTH110 - hot
            self._check(_WRITING)
        return self._files.open(path)

    def write_at(self, descriptor: int, data: bytes, position: int) -> None:
        error = self._error(_WRITING)
        self._files.write_at(descriptor, data if error is None else data[: len(data) // 2], position)
        if error is not None:
            raise error

    def truncate(self, path: str, size: int) -> None:
        self._check(_CHANGING)
        self._files.truncate(path, size)

    def rename(self, old: str, new: str) -> None:
        self._check(_CHANGING)
        self._files.rename(old, new)

    def remove_tree(self, path: str) -> None:
        self._check(_CHANGING)
        self._files.remove_tree(path)

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        error = self._error(_SYNCING)
        return self._files.sync_files(paths) if error is None else dict.fromkeys(paths, error)

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        error = self._error(_SYNCING)
        return self._files.sync_directories(paths) if error is None else dict.fromkeys(paths, error)

    def _check(self, failures: Sequence[Failure]) -> None:
        error = self._error(failures)
        if error is not None:
            raise error

    def _error(self, failures: Sequence[Failure]) -> OSError | None:
        for failure in failures:
            if os.path.exists(self._paths[failure]):  # noqa: PTH110 - hot
                number = _ERRNO[failure]
                return OSError(number, os.strerror(number))
        return None


class FaultyText:
    """Wraps a text stream, whose writes fail once the directory is known that says so."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.directory: Path | None = None

    def write(self, text: str) -> int:
        self._check()
        return self._text.write(text)

    def flush(self) -> None:
        self._check()
        self._text.flush()

    def _check(self) -> None:
        if self.directory is not None and (self.directory / Failure.LOG_FULL.value).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._text, name)


@contextmanager
def failing(directory: Path, failure: Failure) -> Iterator[None]:
    """The disk fails during the block."""
    directory.mkdir(exist_ok=True)
    switch = directory / failure.value
    switch.touch()
    try:
        yield
    finally:
        switch.unlink(missing_ok=True)
