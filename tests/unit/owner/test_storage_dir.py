"""The storage is for the server's user only, also if it was made with a wider mode."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from pgshapes.owner.catalogue import Catalogue
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
