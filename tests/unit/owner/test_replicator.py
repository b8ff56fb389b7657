"""Sessions follow each other whatever ends one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pgshapes.config import Settings
from pgshapes.errors import ConfigError, DiskFull
from pgshapes.owner import replicator as replicator_module
from pgshapes.owner import retries
from pgshapes.owner.replicator import Replicator
from pgshapes.owner.storage_dir import StorageDir
from pgshapes.shape_log.store import ShapeStore
from pgshapes.tables.tables import Tables


def settings_in(directory: Path) -> Settings:
    return Settings(database_url="postgresql://nobody@127.0.0.1:1/none", insecure=True, storage_dir=directory)


def test_a_failed_start_releases_the_storage_directory(tmp_path: Path) -> None:
    def make_store() -> ShapeStore:
        raise ConfigError("cannot write")

    with pytest.raises(ConfigError, match="cannot write"):
        Replicator(settings_in(tmp_path), Tables(), make_store)
    StorageDir(tmp_path).release()


class FakeStore:
    """A store that is only closed."""

    async def close(self) -> None:
        pass


class Sessions:
    """Makes the sessions of a replicator, each of which waits at `gate`, its next step, for the test."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[str] = asyncio.Queue()
        """What the sessions do."""
        self.gates: dict[str, asyncio.Future[None]] = {}

    def __call__(self, *_: Any, **__: Any) -> Sessions:
        return self

    async def __aenter__(self) -> Sessions:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.steps.put_nowait("end")

    async def _step(self, name: str) -> None:
        self.steps.put_nowait(name)
        self.gates[name] = asyncio.get_running_loop().create_future()
        await self.gates[name]

    async def prepare(self, _: object) -> Any:
        await self._step("prepare")

    async def at(self, *names: str) -> None:
        """Wait until the sessions have done this next."""
        async with asyncio.timeout(10):
            assert tuple([await self.steps.get() for _ in names]) == names

    def fail(self, name: str, error: Exception) -> None:
        self.gates[name].set_exception(error)


@asynccontextmanager
async def running(directory: Path, sessions: Sessions) -> AsyncIterator[Replicator]:
    """A replicator that has started before, without pauses, with these sessions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicator_module, "Session", sessions)
        patch.setattr(retries, "_RECONNECT_FIRST_S", 0.0)
        store: Any = FakeStore()
        replicator = Replicator(settings_in(directory), Tables(), lambda: store, is_restart=True)
        task = asyncio.create_task(replicator.run())
        try:
            yield replicator
        finally:
            replicator.stop()
            await task


@pytest.mark.parametrize("error", [DiskFull("full"), MemoryError(), KeyError("a defect")], ids=repr)
async def test_a_session_that_fails_is_followed_by_another(tmp_path: Path, error: Exception) -> None:
    sessions = Sessions()
    async with running(tmp_path, sessions):
        await sessions.at("prepare")
        sessions.fail("prepare", error)
        await sessions.at("end", "prepare")
