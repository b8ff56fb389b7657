"""The directory of one run of the supervisor: the owner's socket, the permits, the sockets of the metrics.

It is not in the storage directory, because the path of a unix socket is limited to about 100 characters. A
supervisor that is killed cannot remove it, so the next one does. Invariant: a supervisor holds a lock on a
file in its directory as long as it runs; a directory whose lock is free belongs to nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pgshapes.logs import get_logger

_log = get_logger(__name__)

PREFIX: Final = "pgshapes-run-"
_LOCK: Final = "supervisor.lock"


@contextmanager
def run_dir() -> Iterator[Path]:
    """A new directory for this user only, which is removed at the end. Removes those of dead supervisors."""
    remove_abandoned()
    path, lock = _make()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def remove_abandoned() -> None:
    """Remove the directories of supervisors that have ended without doing so."""
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink():
                _remove_if_free(path)


def _remove_if_free(path: Path) -> None:
    """Raises OSError if the directory is in use, or was made just now."""
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
        _log.info("directory of an earlier run removed", path=str(path))
    finally:
        os.close(lock)


def _make() -> tuple[Path, int]:
    """A new directory and the lock on it; again if another supervisor removes it before it is locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (path / _LOCK).exists():
            return path, lock
        os.close(lock)
