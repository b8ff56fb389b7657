"""The storage directory: created if missing, checked to be writable, locked by one owner at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pgshapes.errors import ConfigError


class StorageDir:
    """An exclusive lock on a storage directory, held until `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"cannot write to the storage directory {path}: {error.strerror or error};"
                " choose another with --storage-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConfigError(
                f"another pgshapes uses the storage directory {path}:"
                " stop it, or choose another with --storage-dir"
            ) from None

    def release(self) -> None:
        """Release the lock."""
        os.close(self._lock)
