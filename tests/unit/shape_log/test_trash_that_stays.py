"""One directory that cannot be deleted keeps no other one in the trash."""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from pgshapes.owner import removal
from pgshapes.owner.removal import empty_trash
from pgshapes.shape_log.file_store.files import RealFiles
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.waiting.keep_running import keep_running


class StuckFiles(RealFiles):
    """A directory that cannot be deleted while `is_stuck`."""

    is_stuck = True

    def remove_tree(self, path: str) -> None:
        if self.is_stuck and path.endswith("stuck"):
            raise OSError(errno.EIO, "I/O error")
        super().remove_tree(path)


@pytest.fixture
def files(tmp_path: Path) -> StuckFiles:
    return StuckFiles(str(tmp_path))


@pytest.fixture
def store(tmp_path: Path, files: StuckFiles) -> FileShapeStore:
    """A store with three directories in its trash."""
    made = FileShapeStore(tmp_path / "logs", chunk_bytes=1000, files=files)
    for name in ("a", "stuck", "z"):
        (tmp_path / "logs" / "trash" / name).mkdir()
    return made


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "logs" / "trash").iterdir()]


async def test_the_others_are_deleted(tmp_path: Path, store: FileShapeStore) -> None:
    with pytest.raises(OSError, match="I/O error"):
        await store.empty_trash()
    assert left(tmp_path) == ["stuck"]


async def test_the_loop_goes_on_until_it_can_be_deleted(
    tmp_path: Path, store: FileShapeStore, files: StuckFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "TRASH_INTERVAL_S", 0.01)
    loop = partial(keep_running, "the trash", partial(empty_trash, store), first_pause_s=0, longest_pause_s=0)
    emptying = asyncio.ensure_future(loop())
    async with asyncio.timeout(30):
        while left(tmp_path) != ["stuck"]:
            await asyncio.sleep(0.01)
        files.is_stuck = False
        while left(tmp_path):
            await asyncio.sleep(0.01)
    emptying.cancel()
    with suppress(asyncio.CancelledError):
        await emptying
