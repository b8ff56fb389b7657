"""Judges errors of the catalogue by their SQLite code, as `storage_error` judges by errno. Pure.

A shortage is waited for. What no later attempt cures, a damaged file or a write that is refused, is named
with the way out; nothing else is a reason to remove the storage directory.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from pgshapes.errors import CatalogueError, DiskFull, StorageError, StorageFailing, StorageShortage

_PASSING: Final[dict[int, type[StorageShortage]]] = {
    sqlite3.SQLITE_FULL: DiskFull,
    sqlite3.SQLITE_IOERR: StorageFailing,
    **dict.fromkeys(
        (
            *(sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
            *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT),
        ),
        StorageShortage,
    ),
}
"""What the process or the machine lacks, by primary code (SQLite's documentation: Result and Error Codes)."""
_PASSING_ONCE_OPEN: Final = frozenset((sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY))
"""Of a catalogue that was opened before: no descriptors, or the file system does not accept writes now."""


def passing_error(error: sqlite3.Error, what: str) -> StorageShortage | None:
    """The error for what waiting cures while a catalogue is opened or read; None for everything else."""
    kind = _PASSING.get(_primary_code(error))
    return None if kind is None else kind(f"{what}: {error}")


def is_opening_error(error: sqlite3.Error) -> bool:
    """Whether a file could not be opened, for a reason that SQLite does not tell."""
    return _primary_code(error) == sqlite3.SQLITE_CANTOPEN


def write_error(error: sqlite3.Error) -> StorageError:
    """The error for a write that failed: StorageShortage if waiting cures it, else CatalogueError."""
    what = "the catalogue cannot be written"
    if _primary_code(error) in _PASSING_ONCE_OPEN:
        return StorageShortage(f"{what}: {error}")
    advice = "restart the server; if it comes again, remove the storage directory: all shapes are recreated"
    return passing_error(error, what) or CatalogueError(f"{what}: {error}; {advice}")


def _primary_code(error: sqlite3.Error) -> int:
    """0 for an error that Python raises itself: it has no code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
