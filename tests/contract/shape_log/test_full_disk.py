"""A full disk, at any operation: the log is unchanged, and appends succeed again when there is space."""

from __future__ import annotations

import errno
import os
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

from pgshapes.errors import DiskFull, StorageError
from pgshapes.model.offset import AFTER_SNAPSHOT, Offset
from pgshapes.shape_log.file_store.files import RealFiles
from pgshapes.shape_log.file_store.reader import FileLogReader
from pgshapes.shape_log.file_store.store import FileShapeStore
from pgshapes.shape_log.store import Entry

HANDLE = make_handle(1)
CHUNK_BYTES = 300


class SmallDisk(RealFiles):
    """Has a limited size; a write that does not fit is partial. A new name needs one byte."""

    def __init__(self, directory: str, room: int, code: int = errno.ENOSPC) -> None:
        super().__init__(directory)
        self.room = room
        self.code = code
        self.can_truncate = True

    def make_directory(self, path: str) -> bool:
        self._take(1)
        return super().make_directory(path)

    def open(self, path: str) -> int:
        self._take(0 if Path(path).exists() else 1)
        return super().open(path)

    def write_at(self, descriptor: int, data: bytes, position: int) -> None:
        growth = max(position + len(data) - os.fstat(descriptor).st_size, 0)
        if growth > self.room:
            super().write_at(descriptor, data[: self.room], position)
        self._take(growth)
        super().write_at(descriptor, data, position)

    def truncate(self, path: str, size: int) -> None:
        if not self.can_truncate:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().truncate(path, size)

    def _take(self, size: int) -> None:
        if size > self.room:
            raise OSError(self.code, os.strerror(self.code))
        self.room -= size


def _open(tmp_path: Path, files: SmallDisk) -> FileShapeStore:
    return FileShapeStore(tmp_path / "storage", chunk_bytes=CHUNK_BYTES, files=files, max_open_files=2)


def _whole_size(tmp_path: Path) -> int:
    store = FileShapeStore(tmp_path / "whole", chunk_bytes=CHUNK_BYTES)
    append_whole(store.create(HANDLE), make_transactions(1, 8, max_size=40))
    store.close_files()
    return sum(path.stat().st_size for path in (tmp_path / "whole").rglob("log*"))


def _logs(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.rglob("log*")}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_loses_nothing(tmp_path: Path, code: int) -> None:
    transactions = make_transactions(1, 8, max_size=40)
    files = SmallDisk(str(tmp_path), 10**9, code)
    store = _open(tmp_path, files)
    for room in range(0, _whole_size(tmp_path) + 8, 17):
        handle = make_handle(room + 100)
        files.room = room
        log = store.create(handle)
        for transaction in transactions:
            before = log.tail
            try:
                log.append(transaction, ends_transaction=True)
            except DiskFull:
                assert log.tail == before
                files.room = 10**9
                log.append(transaction, ends_transaction=True)
        store.close_files()
        directory = tmp_path / "storage" / "shapes" / handle[:2] / handle
        assert _logs(directory) == _logs(tmp_path / "whole")


def test_fragments_on_a_full_disk(tmp_path: Path) -> None:
    first, second = [entries for entries in make_transactions(2, 40) if len(entries) > 2][:2]
    files = SmallDisk(str(tmp_path), 10**9)
    store = _open(tmp_path, files)
    log = store.create(HANDLE)
    log.append(first, ends_transaction=True)
    log.append(second[:1], ends_transaction=False)
    files.room = 10
    with pytest.raises(DiskFull):
        log.append(second[1:], ends_transaction=True)
    assert log.tail.latest == first[-1].offset
    files.room = 10**9
    log.append(second[1:], ends_transaction=True)

    read = bodies(walk(Reading(FileLogReader(tmp_path / "storage")), HANDLE, AFTER_SNAPSHOT, log.tail))
    assert read == b",".join(entry.json for entry in entries_of([first, second]))
    store.close_files()


def test_a_log_that_cannot_be_truncated_fails(tmp_path: Path) -> None:
    files = SmallDisk(str(tmp_path), 10**9)
    store = _open(tmp_path, files)
    log = store.create(HANDLE)
    append_whole(log, make_transactions(3, 2))
    files.room, files.can_truncate = 10, False
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            log.append([Entry(Offset(999, 0), b"x" * 20)], ends_transaction=True)
        assert not isinstance(caught.value, DiskFull)
        files.room = 10**9


@pytest.mark.parametrize("room", [0, 1, 2, 3, 50, 350, 649])
def test_a_snapshot_on_a_full_disk(tmp_path: Path, room: int) -> None:
    files = SmallDisk(str(tmp_path), 10**9)
    store = _open(tmp_path, files)
    files.room = room
    writer = store.create(HANDLE).start_snapshot()
    with pytest.raises(DiskFull):
        writer.add_rows([b"1" * 99] * 7)
        writer.finish(b"{}")
    files.room = 10**9
    with pytest.raises(StorageError):
        writer.finish(b"{}")
    store.close_files()


class FewDescriptors(RealFiles):
    """Allows at most `limit` open descriptors."""

    limit = 4

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.given = 0

    def open(self, path: str) -> int:
        if self.given >= self.limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.given += 1
        return super().open(path)

    def close(self, descriptor: int) -> None:
        self.given -= 1
        super().close(descriptor)


def test_when_descriptors_run_out_others_are_closed(tmp_path: Path) -> None:
    files = FewDescriptors(str(tmp_path))
    store = FileShapeStore(tmp_path / "storage", chunk_bytes=CHUNK_BYTES, files=files, max_open_files=1000)
    logs = [store.create(make_handle(number)) for number in range(9)]
    transactions = make_transactions(4, 10)
    for transaction in transactions:
        for log in logs:
            log.append(transaction, ends_transaction=True)
    assert {log.tail.latest for log in logs} == {transactions[-1][-1].offset}
    store.close_files()
    assert files.given == 0
