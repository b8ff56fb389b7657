"""The chunks of a snapshot are complete bodies; their boundaries depend only on the rows."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.contract.shape_log.conftest import Harness
from tests.support.storage.shape_log_samples import make_handle

from pgshapes.errors import StorageError

HANDLE = make_handle(1)
END = b'{"headers":{"control":"snapshot-end"}}'
Build = Callable[[int], Harness]


def _rows(count: int) -> list[bytes]:
    chance = random.Random(count)
    return [b'{"id":%d,"x":"%s"}' % (number, b"x" * chance.randint(0, 99)) for number in range(count)]


def _expected_chunks(rows: list[bytes], chunk_bytes: int) -> list[bytes]:
    """The rule of docs/semantics.md, row by row."""
    chunks: list[bytes] = []
    items: list[bytes] = []
    size = 0
    for row in rows:
        items.append(row)
        size += len(row) + 1
        if size >= chunk_bytes:
            chunks.append(b"[" + b",".join(items) + b"]")
            items, size = [], 0
    return [*chunks, b"[" + b",".join([*items, END]) + b"]"]


def _read_all(harness: Harness) -> list[bytes]:
    log = harness.store.get(HANDLE)
    assert log is not None
    return [harness.reader.read_snapshot_chunk(HANDLE, n) for n in range(log.tail.snapshot_chunks)]


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1000, 10**7])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_chunks_depend_on_the_rows_alone(build: Build, chunk_bytes: int, batch: int) -> None:
    harness = build(chunk_bytes)
    rows = _rows(200)
    writer = harness.store.create(HANDLE).start_snapshot()
    for start in range(0, len(rows), batch):
        writer.add_rows(rows[start : start + batch])
    writer.finish(END)

    assert _read_all(harness) == _expected_chunks(rows, chunk_bytes)


def test_chunks_are_readable_as_they_are_completed(build: Build) -> None:
    harness = build(100)
    log = harness.store.create(HANDLE)
    writer = log.start_snapshot()
    assert (log.tail.snapshot_chunks, log.tail.is_snapshot_complete) == (0, False)
    writer.add_rows([b"1" * 50])
    assert log.tail.snapshot_chunks == 0
    writer.add_rows([b"2" * 48])
    assert (log.tail.snapshot_chunks, log.tail.is_snapshot_complete) == (1, False)
    assert harness.reader.read_snapshot_chunk(HANDLE, 0) == b"[" + b"1" * 50 + b"," + b"2" * 48 + b"]"
    writer.finish(END)
    assert (log.tail.snapshot_chunks, log.tail.is_snapshot_complete) == (2, True)
    assert harness.reader.read_snapshot_chunk(HANDLE, 1) == b"[" + END + b"]"


def test_an_empty_snapshot_is_one_chunk(build: Build) -> None:
    harness = build(100)
    writer = harness.store.create(HANDLE).start_snapshot()
    writer.add_rows([])
    writer.finish(END)
    assert _read_all(harness) == [b"[" + END + b"]"]


def test_a_missing_chunk_is_an_error(build: Build) -> None:
    harness = build(100)
    harness.store.create(HANDLE).start_snapshot().finish(END)
    with pytest.raises(StorageError):
        harness.reader.read_snapshot_chunk(HANDLE, 1)
    with pytest.raises(StorageError):
        harness.reader.read_snapshot_chunk(make_handle(2), 0)


def test_a_snapshot_is_written_once(build: Build) -> None:
    log = build(100).store.create(HANDLE)
    writer = log.start_snapshot()
    with pytest.raises(StorageError):
        log.start_snapshot()
    writer.finish(END)
    with pytest.raises(StorageError):
        writer.add_rows([b"1"])
    with pytest.raises(StorageError):
        writer.finish(END)
    with pytest.raises(StorageError):
        log.start_snapshot()


async def test_a_removed_shape_takes_no_more_rows(build: Build) -> None:
    harness = build(100)
    writer = harness.store.create(HANDLE).start_snapshot()
    writer.add_rows([b"1"])
    await harness.store.remove([HANDLE])
    with pytest.raises(StorageError):
        writer.add_rows([b"2"])
    with pytest.raises(StorageError):
        writer.finish(END)
