"""The directory of a run is removed at its end, or by the next run."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest

from pgshapes.server.run_dir import PREFIX, remove_abandoned, run_dir


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_for_this_user_and_removed_at_the_end() -> None:
    with run_dir() as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "owner.sock").touch()
    assert not path.exists()


def test_that_of_a_dead_supervisor_is_removed_by_the_next(temporary: Path) -> None:
    dead = temporary / f"{PREFIX}dead"
    dead.mkdir()
    (dead / "supervisor.lock").touch()
    (dead / "owner.sock").touch()
    with run_dir() as path:
        assert list(temporary.iterdir()) == [path]


def test_that_of_a_living_supervisor_stays() -> None:
    with run_dir() as first, run_dir() as second:
        remove_abandoned()
        assert first.exists()
        assert second.exists()


def test_other_directories_stay(temporary: Path) -> None:
    others = [temporary / f"{PREFIX}new", temporary / "pgshapes-test-1", temporary / "other"]
    for other in others:
        other.mkdir()
    (others[1] / "supervisor.lock").touch()
    elsewhere = temporary / "other" / "supervisor.lock"
    elsewhere.touch()
    (temporary / f"{PREFIX}link").symlink_to(temporary / "other")
    (others[0] / "supervisor.lock").symlink_to(elsewhere)
    remove_abandoned()
    assert all(other.exists() for other in others)
    assert elsewhere.exists()
