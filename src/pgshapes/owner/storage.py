"""What the owner has in its storage directory: the lock on it, the catalogue and the shape logs.

Opened as a whole or not at all. Errors are judged here by whether waiting helps: a shortage is a
StorageShortage, damage and a wrong setting are not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from pgshapes.errors import StorageShortage
from pgshapes.owner.catalogue import Catalogue, WriteBuffer
from pgshapes.owner.retries import is_passing
from pgshapes.owner.storage_dir import StorageDir, storage_unusable
from pgshapes.shape_log.store import ShapeStore


class Storage(NamedTuple):
    """The open storage of an owner; `close` it."""

    directory: StorageDir
    catalogue: Catalogue
    store: ShapeStore
    buffer: WriteBuffer

    @classmethod
    def open(cls, path: Path, make_store: Callable[[], ShapeStore]) -> Storage:
        """Lock the directory and open what is in it.

        Raises StorageShortage, or another error of the system, for what waiting cures; ConfigError or
        StorageError for what it does not.
        """
        directory = StorageDir(path)
        try:
            catalogue = Catalogue(path)
            try:
                store = _made(make_store, path)
            except BaseException:
                catalogue.close()
                raise
        except BaseException:
            directory.release()
            raise
        return cls(directory, catalogue, store, WriteBuffer(catalogue))

    async def close(self) -> None:
        """Write what is queued and close everything, also if closing one of them fails."""
        async with AsyncExitStack() as stack:
            stack.callback(self.directory.release)
            stack.callback(self.catalogue.close)
            stack.push_async_callback(self.buffer.close)
            stack.push_async_callback(self.store.close)


def _made(make_store: Callable[[], ShapeStore], path: Path) -> ShapeStore:
    try:
        return make_store()
    except (OSError, StorageShortage) as error:
        if is_passing(error):
            raise
        raise storage_unusable(f"cannot write to the storage directory {path}: {error}") from error
