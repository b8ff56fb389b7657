"""A response that has begun waits for a shortage and goes on; damage breaks it off at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.seams.http_fakes import ITEMS, Client, FakeBackend, turns
from tests.support.storage.descriptors import descriptors_left

from pgshapes.errors import DiskFull, StorageError, StorageFailing, StorageShortage
from pgshapes.http_api import shortages
from pgshapes.http_api.body_cache import BodyCache
from pgshapes.http_api.large_body import PART_BYTES
from pgshapes.http_api.response import ResponseAborted
from pgshapes.http_api.shortages import outlast
from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail
from pgshapes.owner.creator import new_handle
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import ANY_SIZE, LogSlice

HANDLE = "17-4"
CHUNK = b"[" + b"x" * (4 * PART_BYTES) + b"]"
SHORTAGES = [StorageShortage("open: Too many open files"), StorageFailing("EIO"), DiskFull("full")]


class Lacking(FakeBackend):
    """Reads fail from a number on, with these errors."""

    def __init__(self, *errors: StorageError, after: int = 0) -> None:
        super().__init__()
        self._errors = list(errors)
        self._after = after

    def _read(self) -> None:
        self._after -= 1
        if self._after < 0 and self._errors:
            raise self._errors.pop(0)

    async def read_part(self, handle: str, chunk: int | None, position: int, size: int) -> bytes:
        self._read()
        return await super().read_part(handle, chunk, position, size)

    async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        self._read()
        return await super().read_log(handle, after, tail, most)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortages, "_FIRST_S", 0.0)


@pytest.mark.parametrize("after", range(4))
async def test_a_large_body_goes_on_after_a_shortage(after: int) -> None:
    backend = Lacking(*SHORTAGES, after=after)
    backend.add(ITEMS, HANDLE, chunks=[CHUNK])
    answer = await Client(backend).get("table=items&offset=-1")
    assert (answer.status, answer.body) == (200, CHUNK)


async def test_a_stream_goes_on_after_a_shortage() -> None:
    backend = Lacking(*SHORTAGES, after=1)
    backend.add(ITEMS, HANDLE)
    backend.append(HANDLE, 50, 0)
    stream = Client(backend).hold(f"table=items&handle={HANDLE}&live=true&live_sse=true&offset=0_inf")
    await turns()
    backend.append(HANDLE, 60, 2)
    while b'"60"' not in stream.answer.body:
        assert not stream.task.done()
        await turns()
    stream.disconnect()
    await turns()


async def test_a_stream_that_has_not_begun_is_refused() -> None:
    backend = Lacking(SHORTAGES[0])
    backend.add(ITEMS, HANDLE)
    backend.append(HANDLE, 50, 0)
    client = Client(backend)
    answer = await client.get(f"table=items&handle={HANDLE}&live=true&live_sse=true&offset=0_inf")
    assert answer.status == 503


async def test_damage_is_not_waited_for() -> None:
    backend = Lacking(SHORTAGES[0], StorageError("a file is shorter"), SHORTAGES[0], after=1)
    backend.add(ITEMS, HANDLE, chunks=[CHUNK])
    held = Client(backend).hold("table=items&offset=-1")
    with pytest.raises(ResponseAborted):
        await held.task
    assert held.answer.body == CHUNK[:PART_BYTES]
    assert len(backend._errors) == 1


async def test_a_shortage_is_not_waited_for_without_limit() -> None:
    async def read() -> None:
        raise SHORTAGES[0]

    with pytest.raises(StorageShortage):
        await outlast(read, limit_s=0.0)


async def test_no_descriptors_for_the_next_part(tmp_path: Path) -> None:
    """Of real files: what was read is cached, the rest comes when there are descriptors again."""
    handle = new_handle()
    writer = FileShapeStore(tmp_path, chunk_bytes=10 * PART_BYTES).create(handle).start_snapshot()
    writer.add_rows([CHUNK])
    writer.finish(b"{}")
    piece = await BodyCache(FileLogReader(tmp_path), 10_000_000).snapshot_chunk(handle, 0)
    assert piece.large is not None
    first = await piece.large.part(0)
    with descriptors_left(0):
        assert await piece.large.part(0) is first
        reading = asyncio.create_task(piece.large.part(PART_BYTES))
        await turns()
        assert not reading.done()
    assert await reading == b"x" * PART_BYTES
