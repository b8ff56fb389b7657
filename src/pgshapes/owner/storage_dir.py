"""The storage directory: created if missing, checked to be writable, locked by one owner at a time.

It has the rows of all shapes, so it is for the server's user only, also if it was made with a wider mode. A
directory that has other files than ours is left as it is; what we put into it is closed in any case.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from pgshapes.errors import ConfigError, StorageShortage, is_shortage
from pgshapes.logs import get_logger

_log = get_logger(__name__)

_LOCK: Final = "owner.lock"
_OTHERS: Final = 0o077


class StorageDir:
    """An exclusive lock on a storage directory, held until `release`. Raises ConfigError, and StorageShortage
    for what waiting cures.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_ours(path):
                close_to_others(path)
            self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _error(error, f"cannot write to the storage directory {path}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(
                f"another pgshapes uses the storage directory {path}:"
                " stop it, or choose another with --storage-dir"
            ) from None
        except OSError as error:
            os.close(self._lock)
            raise _error(error, f"cannot lock the storage directory {path}") from error

    def release(self) -> None:
        """Release the lock."""
        os.close(self._lock)


def storage_unusable(reason: str) -> ConfigError:
    """The error for a storage directory with which no start can succeed."""
    return ConfigError(f"{reason}; choose another with --storage-dir")


def _error(error: OSError, what: str) -> ConfigError | StorageShortage:
    reason = f"{what}: {error.strerror or error}"
    return StorageShortage(reason) if is_shortage(error) else storage_unusable(reason)


def _is_ours(path: Path) -> bool:
    """Whether a directory was made for us: it has our lock file, or nothing yet."""
    if path.stat().st_mode & stat.S_ISVTX:
        return False
    return (path / _LOCK).exists() or not any(path.iterdir())


def close_to_others(path: Path) -> None:
    """Take all rights of the group and of others on a file or directory; log it if that is not possible."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        try:
            path.chmod(mode & ~_OTHERS)
        except OSError as error:
            _log.warning("other users may read the storage", path=str(path), error=error.strerror)
