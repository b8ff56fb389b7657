"""The storage is closed to other users, also if it was made with a wider mode; a shortage is waited for."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.storage.descriptors import descriptors_left, open_files

from pgshapes.errors import ConfigError, StorageFailing, StorageShortage
from pgshapes.owner.catalogue import Catalogue
from pgshapes.owner.retries import is_passing
from pgshapes.owner.storage import Storage
from pgshapes.owner.storage_dir import StorageDir


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_storage_is_closed_to_others(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = tmp_path / "storage"
        storage, catalogue = StorageDir(path), Catalogue(path)
        assert mode(path) == 0o700
        made = {each.name: mode(each) for each in path.iterdir()}
        assert len(made) == 4
        assert set(made.values()) == {0o600}
        catalogue.close()
        storage.release()
    finally:
        os.umask(before)


def test_a_storage_with_a_wider_mode_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "storage"
    StorageDir(path).release()
    first = Catalogue(path)
    names = [each.name for each in path.iterdir()]
    for name in names:
        (path / name).chmod(0o666)
    path.chmod(0o755)
    StorageDir(path).release()
    second = Catalogue(path)
    assert mode(path) == 0o700
    assert {mode(path / name) for name in names if name.startswith("catalogue")} == {0o600}
    second.close()
    first.close()


def test_a_directory_with_other_files_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    (path / "file").touch()
    StorageDir(path).release()
    catalogue = Catalogue(path)
    assert mode(path) == 0o755
    assert {mode(each) for each in path.iterdir() if each.name != "file"} == {0o600}
    catalogue.close()


def test_a_directory_for_everybody_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "tmp"
    path.mkdir()
    path.chmod(0o1777)
    StorageDir(path).release()
    assert mode(path) == 0o1777


def test_a_catalogue_that_was_read_by_everybody_is_still_a_database(tmp_path: Path) -> None:
    path = tmp_path / "storage"
    StorageDir(path).release()
    Catalogue(path).close()
    (file,) = path.glob("catalogue*.sqlite")
    assert sqlite3.connect(file).execute("SELECT count(*) FROM shapes").fetchone() == (0,)


def test_a_directory_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--storage-dir"):
        StorageDir(tmp_path / "file")
    holder = StorageDir(tmp_path / "used")
    with pytest.raises(ConfigError, match="another pgshapes"):
        StorageDir(tmp_path / "used")
    holder.release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", raising(OSError(number, "not possible")))
    before = open_files()
    with pytest.raises(ConfigError, match=r"cannot lock .* not possible; choose another with --storage-dir"):
        StorageDir(tmp_path)
    assert open_files() <= before


def test_a_lock_that_lacks_memory_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", raising(OSError(errno.ENOMEM, "no memory")))
    with pytest.raises(StorageShortage, match=r"cannot lock .* no memory"):
        StorageDir(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "Permission denied"),
        OSError(errno.EROFS, "Read-only file system"),
        StorageFailing("sync: Not supported", errno=errno.EOPNOTSUPP),
        StorageShortage("sync: Read-only file system", errno=errno.EROFS),
    ],
)
def test_a_store_that_cannot_be_made_ends_the_start(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(ConfigError, match="choose another with --storage-dir"):
        Storage.open(tmp_path, raising(error))
    StorageDir(tmp_path).release()


def raising(error: Exception) -> Callable[..., Any]:
    def function(*_: object) -> None:
        raise error

    return function


@pytest.mark.parametrize("left", range(8))
def test_a_storage_is_opened_or_lacks_descriptors(tmp_path: Path, left: int) -> None:
    """However many are left; after an error nothing is left open, and it can be opened again."""
    store: Any = object()
    before = open_files()
    with descriptors_left(left):
        try:
            close(Storage.open(tmp_path, lambda: store))
        except Exception as error:
            assert is_passing(error), repr(error)
    assert open_files() <= before
    close(Storage.open(tmp_path, lambda: store))


def close(opened: Storage) -> None:
    opened.catalogue.close()
    opened.directory.release()
