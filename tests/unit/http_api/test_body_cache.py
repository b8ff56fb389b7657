"""Which bodies are read once, and how long they are cached."""

from __future__ import annotations

import asyncio
import gc

import orjson
import pytest
from tests.support.seams.http_fakes import ITEMS, FakeBackend

from pgshapes.errors import StorageError
from pgshapes.http_api.body_cache import (
    ENTRY_OVERHEAD_BYTES,
    BodyCache,
    up_to_date,
    up_to_date_after,
)
from pgshapes.http_api.large_body import PART_BYTES, LargeBody, events_of
from pgshapes.http_api.sse import as_events
from pgshapes.model.offset import AFTER_SNAPSHOT, Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.store import ANY_SIZE, LogSlice

HANDLE = "17-4"


@pytest.fixture
def backend() -> FakeBackend:
    backend = FakeBackend()
    backend.add(ITEMS, HANDLE)
    return backend


async def log(cache: BodyCache, backend: FakeBackend, seen_lsn: int = 0) -> bytes:
    piece = await cache.log(HANDLE, AFTER_SNAPSHOT, backend.shapes[HANDLE].tail, seen_lsn)
    return piece.body


async def test_a_closed_chunk_is_read_once_while_the_log_grows(backend: FakeBackend) -> None:
    cache = BodyCache(backend, 10_000)
    backend.append(HANDLE, 50, 0, is_chunk_end=True)
    for tx in (60, 70):
        backend.append(HANDLE, tx, 0)
        assert await log(cache, backend, seen_lsn=tx) == await log(cache, backend)
    assert len(backend.reads) == 1


async def test_an_open_piece_is_read_again_when_the_log_grows(backend: FakeBackend) -> None:
    cache = BodyCache(backend, 10_000)
    backend.append(HANDLE, 50, 0)
    first = await log(cache, backend)
    assert await log(cache, backend) is first
    backend.append(HANDLE, 60, 0)
    assert await log(cache, backend) != first
    assert len(backend.reads) == 2


async def test_a_closed_chunk_has_up_to_date_only_at_the_end_of_the_log(backend: FakeBackend) -> None:
    cache = BodyCache(backend, 10_000)
    backend.append(HANDLE, 50, 0, is_chunk_end=True)
    assert b"up-to-date" in await log(cache, backend)
    backend.append(HANDLE, 60, 0)
    assert b"up-to-date" not in await log(cache, backend)


async def test_the_least_recently_used_body_is_evicted(backend: FakeBackend) -> None:
    size = 100 + ENTRY_OVERHEAD_BYTES
    backend.shapes[HANDLE].chunks = [b"x" * 100] * 3
    cache = BodyCache(backend, 2 * size)
    for number in (0, 1, 0, 2, 0, 1):
        await cache.snapshot_chunk(HANDLE, number)
    assert [read[-1] for read in backend.reads] == ["0", "1", "2", "1"]


async def test_a_body_larger_than_the_cache_is_served(backend: FakeBackend) -> None:
    cache = BodyCache(backend, 10)
    first, second = await cache.snapshot_chunk(HANDLE, 0), await cache.snapshot_chunk(HANDLE, 0)
    assert first == second
    assert len(backend.reads) == 2


class SlowBackend(FakeBackend):
    """Reads of the log wait until `may_read` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.may_read = asyncio.Event()

    async def read_log(self, handle: str, after: Offset, tail: Tail, most: int = ANY_SIZE) -> LogSlice:
        found = await super().read_log(handle, after, tail, most)
        await self.may_read.wait()
        return found


@pytest.fixture
def slow() -> SlowBackend:
    slow = SlowBackend()
    slow.add(ITEMS, HANDLE)
    slow.append(HANDLE, 50, 0)
    return slow


async def test_requests_for_a_piece_that_is_being_read_wait_for_that_read(slow: SlowBackend) -> None:
    cache = BodyCache(slow, 10_000)
    waiting = [asyncio.create_task(log(cache, slow)) for _ in range(100)]
    await asyncio.sleep(0)
    slow.may_read.set()
    assert len(set(await asyncio.gather(*waiting))) == 1
    assert len(slow.reads) == 1


async def test_a_waiting_request_reads_when_the_reader_is_cancelled(slow: SlowBackend) -> None:
    cache = BodyCache(slow, 10_000)
    first, *others = [asyncio.create_task(log(cache, slow)) for _ in range(10)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    slow.may_read.set()
    assert len(set(await asyncio.gather(*others))) == 1
    assert len(slow.reads) == 2


async def test_waiting_requests_retry_a_failed_read(slow: SlowBackend) -> None:
    cache = BodyCache(slow, 10_000)
    slow.shapes[HANDLE].is_damaged = True
    waiting = [asyncio.create_task(log(cache, slow)) for _ in range(3)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StorageError] * 3
    assert len(slow.reads) == 3


async def test_a_closed_chunk_read_for_two_tails_is_counted_once(slow: SlowBackend) -> None:
    slow.append(HANDLE, 60, 0, is_chunk_end=True)
    slow.append(HANDLE, 70, 0)
    cache = BodyCache(slow, 2 * (1_000 + ENTRY_OVERHEAD_BYTES))
    waiting = [asyncio.create_task(log(cache, slow))]
    await asyncio.sleep(0)
    slow.append(HANDLE, 80, 0)
    waiting.append(asyncio.create_task(log(cache, slow)))
    await asyncio.sleep(0)
    slow.may_read.set()
    first, second = await asyncio.gather(*waiting)
    assert first == second
    assert len(slow.reads) == 2
    assert cache.size_bytes == len(first) + ENTRY_OVERHEAD_BYTES


def test_the_up_to_date_message() -> None:
    assert up_to_date(7) == b'{"headers":{"control":"up-to-date","global_last_seen_lsn":"7"}}'
    assert up_to_date_after(b"", 7) == up_to_date(7)
    assert up_to_date_after(b"{}", 7) == b"{}," + up_to_date(7)


def large_backend() -> tuple[FakeBackend, bytes]:
    """A shape with a snapshot chunk and a log that are both larger than three parts."""
    backend = FakeBackend()
    chunk = b"[" + b",".join(b'{"k":"%06d"}' % number for number in range(40_000)) + b"]"
    shape = backend.add(ITEMS, HANDLE, chunks=[chunk])
    shape.log = [(Offset(50, op), b'{"v":"%d%s"}' % (op, b"x" * 90_000)) for op in range(5)]
    backend.set_tail(HANDLE, shape.tail._replace(latest=Offset(50, 4), position=(5,)))
    return backend, chunk


async def parts_of(body: LargeBody) -> list[bytes]:
    found: list[bytes] = []
    while sum(map(len, found)) < len(body):
        found.append(await body.part(sum(map(len, found))))
    return found


@pytest.mark.parametrize("is_cached", [True, False])
async def test_a_large_body_in_parts(is_cached: bool) -> None:
    """No more than a part is read at once; parts are read once while they are cached."""
    backend, chunk = large_backend()
    cache = BodyCache(backend, 10_000_000 if is_cached else 0)
    shape = backend.shapes[HANDLE]
    messages = b",".join(text for _, text in shape.log)
    whole = [chunk, b"[%b,%b]" % (messages, up_to_date(60))]
    pieces = [await cache.snapshot_chunk(HANDLE, 0), await cache.log(HANDLE, AFTER_SNAPSHOT, shape.tail, 60)]
    assert pieces[1].is_up_to_date
    for piece, body in zip(pieces, whole, strict=True):
        assert piece.large is not None and not piece.body
        for _ in range(2):
            parts = await parts_of(piece.large)
            assert b"".join(parts) == body
            assert {len(part) for part in parts[:-1]} == {PART_BYTES}
    assert sum(backend.parts) in range(sum(map(len, whole)) * (1 if is_cached else 2))
    assert max(backend.parts) <= PART_BYTES


async def test_a_large_closed_chunk_in_parts() -> None:
    backend, _ = large_backend()
    shape = backend.shapes[HANDLE]
    shape.bounds = [Offset(50, 2)]
    cache = BodyCache(backend, 0)
    piece = await cache.log(HANDLE, Offset(50, 0), shape.tail, 60)
    assert piece.large is not None and not piece.is_up_to_date
    assert b"".join(await parts_of(piece.large)) == b"[%b,%b]" % tuple(text for _, text in shape.log[1:3])


@pytest.mark.parametrize("size", [1, 14, 90_000, 2 * PART_BYTES])
async def test_a_large_body_as_events(size: int) -> None:
    """Wherever parts end, and whatever is in the texts."""
    backend = FakeBackend()
    value = orjson.dumps('}},{"key":' + "x" * size)
    message = b'{"key":%b,"value":{"a":%b,"}},{":null},"headers":{"b":[1]}}' % (value, value)
    count = 3 * PART_BYTES // len(message) + 2
    shape = backend.add(ITEMS, HANDLE)
    shape.log = [(Offset(50, op), message) for op in range(count)]
    backend.set_tail(HANDLE, shape.tail._replace(latest=Offset(50, count - 1), position=(5,)))
    piece = await BodyCache(backend, 0).log(HANDLE, AFTER_SNAPSHOT, shape.tail, 60)
    assert piece.large is not None
    events = [part async for part in events_of(piece.large)]
    assert b"".join(events) == as_events(b"[%b,%b]" % (b",".join([message] * count), up_to_date(60)))
    assert max(map(len, events)) < 2 * PART_BYTES


async def test_readers_of_large_bodies_keep_nothing() -> None:
    """However many read from different offsets, only the cache has parts."""
    backend, _ = large_backend()
    cache = BodyCache(backend, 400_000)
    tail = backend.shapes[HANDLE].tail
    for op in range(4):
        piece = await cache.log(HANDLE, Offset(50, op - 1) if op else AFTER_SNAPSHOT, tail, 60)
        large = piece.large
        del piece
        if large is not None:
            await large.part(0)
            reachable = gc.get_referents(large)
            assert not any(isinstance(each, bytes) and len(each) > 1_000 for each in reachable)
    assert cache.size_bytes <= 400_000


async def test_a_removed_shape_ends_its_large_bodies() -> None:
    backend, _ = large_backend()
    cache = BodyCache(backend, 0)
    piece = await cache.snapshot_chunk(HANDLE, 0)
    assert piece.large is not None
    await piece.large.part(0)
    backend.remove(HANDLE)
    with pytest.raises(StorageError):
        await piece.large.part(PART_BYTES)
