"""The system calls of the two syncs, which are recorded because their effect on a disk cannot be tested."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pgshapes.errors import DiskFull, StorageError, StorageFailing, StorageShortage
from pgshapes.shape_log.file_store import files as files_module
from pgshapes.shape_log.file_store.files import SYNC_FILE_SYSTEM_FROM, RealFiles, storage_error


class Watch:
    """Records what was synced, by the path of each descriptor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.content: list[str] = []
        self.names: list[str] = []
        self.file_systems = 0
        self.syncfs_result = 0
        monkeypatch.setattr(files_module, "_sync_content", self._watched(self.content, os.fdatasync))
        monkeypatch.setattr(os, "fsync", self._watched(self.names, os.fsync))
        monkeypatch.setattr(files_module, "_syncfs", self._sync_file_system)

    def _watched(self, seen: list[str], sync: Callable[[int], None]) -> Callable[[int], None]:
        def watched(descriptor: int) -> None:
            seen.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
            sync(descriptor)

        return watched

    def _sync_file_system(self, descriptor: int) -> int:
        os.fstat(descriptor)
        self.file_systems += 1
        return self.syncfs_result


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def _make_files(directory: Path, count: int) -> list[str]:
    paths = [directory / str(number) for number in range(count)]
    for path in paths:
        path.write_bytes(b"x")
    return [str(path) for path in paths]


def test_the_real_calls_are_the_right_ones() -> None:
    assert files_module._sync_content is os.fdatasync
    assert files_module._syncfs is not None
    assert files_module._syncfs.__name__ == "syncfs"


def test_few_files_are_synced_one_by_one(tmp_path: Path, watch: Watch) -> None:
    paths = _make_files(tmp_path, 3)
    assert RealFiles(str(tmp_path)).sync_files(paths) == {}
    assert watch.content == paths
    assert watch.file_systems == 0


def test_directories_are_synced_one_by_one(tmp_path: Path, watch: Watch) -> None:
    assert RealFiles(str(tmp_path)).sync_directories([str(tmp_path)]) == {}
    assert watch.names == [str(tmp_path)]


def test_many_are_synced_at_once(tmp_path: Path, watch: Watch) -> None:
    paths = _make_files(tmp_path, SYNC_FILE_SYSTEM_FROM)
    files = RealFiles(str(tmp_path))
    assert files.sync_files(paths) == {}
    assert files.sync_directories(paths) == {}
    assert (watch.file_systems, watch.content, watch.names) == (2, [], [])


def test_paths_are_synced_one_by_one_if_syncfs_fails(tmp_path: Path, watch: Watch) -> None:
    watch.syncfs_result = -1
    paths = _make_files(tmp_path, SYNC_FILE_SYSTEM_FROM)
    files = RealFiles(str(tmp_path))
    assert files.sync_files(paths) == {}
    assert watch.content == paths
    assert files.sync_directories([str(tmp_path)] * SYNC_FILE_SYSTEM_FROM) == {}
    assert len(watch.names) == SYNC_FILE_SYSTEM_FROM


def test_a_failure_names_its_path(tmp_path: Path) -> None:
    (path,) = _make_files(tmp_path, 1)
    missing = str(tmp_path / "missing")
    failed = RealFiles(str(tmp_path)).sync_files([missing, path])
    assert list(failed) == [missing]
    assert failed[missing].errno == errno.ENOENT


def test_without_descriptors_the_file_system_is_synced(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_descriptor(path: str, sync: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    paths = _make_files(tmp_path, 2)
    monkeypatch.setattr(files_module, "_sync_path", no_descriptor)
    assert RealFiles(str(tmp_path)).sync_files(paths) == {}
    assert watch.file_systems == 2
    watch.syncfs_result = -1
    assert set(RealFiles(str(tmp_path)).sync_files(paths)) == set(paths)


def test_the_real_syncfs_works(tmp_path: Path) -> None:
    paths = _make_files(tmp_path, SYNC_FILE_SYSTEM_FROM)
    assert RealFiles(str(tmp_path)).sync_files(paths) == {}


def test_a_write_is_whole_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RealFiles(str(tmp_path))
    descriptor = files.open(str(tmp_path / "file"))
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data)[:3], at))
    files.write_at(descriptor, b"0123456789", 2)
    files.write_at(descriptor, b"", 0)
    files.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"\0\x000123456789"


def test_names(tmp_path: Path) -> None:
    files = RealFiles(str(tmp_path))
    directory = str(tmp_path / "a")
    assert files.make_directory(directory)
    assert not files.make_directory(directory)
    files.rename(directory, str(tmp_path / "b"))
    files.remove_tree(str(tmp_path / "b"))
    files.remove_tree(str(tmp_path / "b"))
    assert list(tmp_path.iterdir()) == []


def test_what_an_error_means() -> None:
    assert isinstance(storage_error(OSError(errno.ENOSPC, "full"), "x"), DiskFull)
    assert isinstance(storage_error(OSError(errno.EDQUOT, "full"), "x"), DiskFull)
    for code in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EROFS):
        assert type(storage_error(OSError(code, "short"), "x")) is StorageShortage
    for code in (errno.EIO, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT):
        assert type(storage_error(OSError(code, "broken"), "x")) is StorageFailing
    for code in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        assert type(storage_error(OSError(code, "gone"), "x")) is StorageError
    assert storage_error(OSError(errno.EIO, "broken"), "x").message == "x: broken"


def test_no_errno_is_unjudged() -> None:
    """An error of which nobody has thought may pass; it deletes nothing at once."""
    for code in errno.errorcode:
        kind = type(storage_error(OSError(code, "x"), "x"))
        assert kind is StorageFailing or code in files_module._DAMAGE or code in files_module._SHORTAGES


def test_syncs_go_on_without_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RealFiles(str(tmp_path))
    paths = _make_files(tmp_path, 3)
    assert files.sync_directories([str(tmp_path)]) == {}

    def exhausted(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", exhausted)
    assert files.sync_files(paths) == {}
    other = RealFiles(str(tmp_path))
    assert {error.errno for error in other.sync_files(paths).values()} == {errno.EMFILE}
