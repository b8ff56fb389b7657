"""Cases of the file reader: damaged files, truncated files, and an owner in another process."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.storage.reading import Reading
from tests.support.storage.shape_log_samples import (
    append_whole,
    bodies,
    entries_of,
    make_handle,
    make_transactions,
    walk,
)

from pgshapes.errors import StorageError, StorageShortage
from pgshapes.model.offset import AFTER_SNAPSHOT, Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.file_store import reader as reader_module
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import Entry, LogSlice

HANDLE = make_handle(1)
DIRECTORY = Path("shapes") / HANDLE[:2] / HANDLE


def _write(tmp_path: Path, seed: int) -> Tail:
    store = FileShapeStore(tmp_path, chunk_bytes=400)
    log = store.create(HANDLE)
    append_whole(log, make_transactions(seed, 50))
    store.close_files()
    return log.tail


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["log", "log.index"])
def test_damage_is_a_storage_error_or_nothing(tmp_path: Path, seed: int, name: str) -> None:
    tail = _write(tmp_path, seed)
    chance = random.Random(seed)
    path = tmp_path / DIRECTORY / name
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 10, 200))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data[: chance.randrange(len(data))])
    for entry in entries_of(make_transactions(seed, 50)):
        try:
            Reading(FileLogReader(tmp_path)).read_log(HANDLE, entry.offset, tail)
        except StorageError:
            continue


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_large_message_is_checked_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    """Without being read whole: other tasks run between the steps."""
    monkeypatch.setattr(reader_module, "STEP_BYTES", 1_000)
    store = FileShapeStore(tmp_path, chunk_bytes=400)
    log = store.create(HANDLE)
    text = b'"%b"' % (b"x" * 10_000)
    log.append([Entry(Offset(50, 0), text)], ends_transaction=True)
    store.close_files()
    path = tmp_path / DIRECTORY / "log"
    if is_damaged:
        path.write_bytes(path.read_bytes().replace(b'x"', b'y"'))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    reading = FileLogReader(tmp_path).read_log(HANDLE, AFTER_SNAPSHOT, log.tail, 100)
    if is_damaged:
        with pytest.raises(StorageError):
            await reading
    else:
        assert await reading == LogSlice(b"", Offset(50, 0), True, 0, len(text))
    counting.cancel()
    assert turns >= 10


@pytest.mark.parametrize("name", ["log", "log.index"])
def test_a_missing_file_is_a_storage_error(tmp_path: Path, name: str) -> None:
    tail = _write(tmp_path, 1)
    (tmp_path / DIRECTORY / name).unlink()
    with pytest.raises(StorageError):
        Reading(FileLogReader(tmp_path)).read_log(HANDLE, AFTER_SNAPSHOT, tail)


def test_a_shorter_log_is_a_storage_error(tmp_path: Path) -> None:
    tail = _write(tmp_path, 1)
    path = tmp_path / DIRECTORY / "log"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(StorageError):
        Reading(FileLogReader(tmp_path)).read_log(HANDLE, tail.last_chunk_bound, tail)


def test_cached_tails_are_bounded_and_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "REMEMBERED_TAILS", 3)
    store = FileShapeStore(tmp_path, chunk_bytes=10**6)
    log = store.create(HANDLE)
    reader = Reading(FileLogReader(tmp_path))
    transactions = make_transactions(1, 20)
    tails = []
    for transaction in transactions:
        log.append(transaction, ends_transaction=True)
        tails.append(log.tail)
        reader.read_log(HANDLE, AFTER_SNAPSHOT, log.tail)
    for number, tail in enumerate(tails):
        rest = b",".join(entry.json for entry in entries_of(transactions[number + 1 :]))
        assert bodies(walk(reader, HANDLE, tail.latest, log.tail)) == rest
    store.close_files()


_OWNER = """
import sys
sys.path[:0] = sys.argv[2:]
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import Entry, LogSlice
from tests.support.storage.shape_log_samples import append_in_pieces, make_handle, make_transactions

store = FileShapeStore(sys.argv[1], chunk_bytes=3000)
log = store.create(make_handle(1))
for transaction in make_transactions(1, 1500):
    append_in_pieces(log, [transaction], 1)
    tail = log.tail
    print(*tail.latest, *tail.last_chunk_bound, *tail.position, flush=True)
"""


def test_reading_while_another_process_appends(tmp_path: Path) -> None:
    reader, position, read = Reading(FileLogReader(tmp_path)), AFTER_SNAPSHOT, []
    command = [sys.executable, "-c", _OWNER, str(tmp_path), *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        for line in owner.stdout:
            tx, op, bound_tx, bound_op, *at = map(int, line.split())
            tail = Tail(Offset(tx, op), Offset(bound_tx, bound_op), position=tuple(at))
            slices = walk(reader, HANDLE, position, tail)
            read += [piece.body for piece in slices]
            position = slices[-1].end
    assert owner.returncode == 0
    assert b",".join(read) == b",".join(entry.json for entry in entries_of(make_transactions(1, 1500)))


def test_reading_without_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = _write(tmp_path, 1)
    reader = Reading(FileLogReader(tmp_path))

    def exhausted(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", exhausted)
    with pytest.raises(StorageShortage):
        reader.read_log(HANDLE, AFTER_SNAPSHOT, tail)


def test_a_start_without_descriptors_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, 1)
    store = FileShapeStore(tmp_path, chunk_bytes=400)
    before = sorted(tmp_path.rglob("*"))

    def exhausted(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", exhausted)
        patch.setattr(os, "listdir", exhausted)
        with pytest.raises(StorageShortage):
            store.recover([HANDLE], 0)
    assert sorted(tmp_path.rglob("*")) == before
