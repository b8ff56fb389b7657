"""A sync that could not be done does not count as done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.storage.shape_log_samples import append_whole, make_handle, make_transactions

from pgshapes.errors import StorageError
from pgshapes.shape_log.file_store.files import RealFiles
from pgshapes.shape_log.file_store.store import FileShapeStore

HANDLE = make_handle(1)


class BrokenFiles(RealFiles):
    """Syncs that raise what is no OSError of a file, once."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.error: Exception | None = None
        self.synced: list[str] = []

    def sync_files(self, paths: Sequence[str]) -> dict[str, OSError]:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.synced += paths
        return super().sync_files(paths)


def made(tmp_path: Path) -> tuple[FileShapeStore, BrokenFiles]:
    """A store with one shape that is not synced."""
    files = BrokenFiles(str(tmp_path))
    store = FileShapeStore(tmp_path / "logs", chunk_bytes=1000, files=files)
    log = store.create(HANDLE)
    append_whole(log, make_transactions(1, 1))
    return store, files


async def test_a_sync_without_a_thread_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, files = made(tmp_path)

    async def no_thread(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "to_thread", no_thread)
        with pytest.raises(RuntimeError):
            await store.sync()
    assert files.synced == []
    await store.sync()
    assert any(HANDLE in path for path in files.synced)
    await store.close()


@pytest.mark.parametrize("make", [MemoryError, lambda: OSError(24, "no descriptors")])
async def test_a_sync_that_broke_off_loses_its_shapes(tmp_path: Path, make: Callable[[], Exception]) -> None:
    """Some of its files may have failed, which a second sync would not say."""
    store, files = made(tmp_path)
    files.error = error = make()
    with pytest.raises(type(error)):
        await store.sync()
    with pytest.raises(StorageError, match="lost data"):
        await store.sync()
    await store.close()
