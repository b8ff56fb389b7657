"""An error of the disk is damage when it lasts, and it lasts only while it is tried."""

from __future__ import annotations

import pytest

from pgshapes.errors import DiskFull, StorageError, StorageFailing, StorageShortage
from pgshapes.shape_log import disk_errors
from pgshapes.shape_log.disk_errors import LIMIT_S, DiskErrors

EIO = StorageFailing("Input/output error")


class Disk:
    """A disk that fails, and a clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.errors = DiskErrors(lambda: self.now_s)

    def fails_at(self, now_s: float, key: str = "h") -> bool:
        """Whether an error at this time is damage."""
        self.now_s = now_s
        return self.errors.is_damage(key, EIO)


def test_an_error_that_is_seen_again_and_again_is_damage() -> None:
    disk = Disk()
    assert [disk.fails_at(now_s) for now_s in (0, 30, 60, 61)] == [False, False, False, True]


def test_two_errors_that_are_far_apart_are_no_damage() -> None:
    """A client gets one 503 and leaves; an hour later another one gets one."""
    disk = Disk()
    hour_s = 3600.0
    assert not any(disk.fails_at(number * hour_s) for number in range(5))
    assert disk.fails_at(4 * hour_s + 50) is False
    assert disk.fails_at(4 * hour_s + LIMIT_S + 1) is True, "this one has lasted"


def test_a_success_begins_it_again() -> None:
    disk = Disk()
    disk.fails_at(0)
    disk.fails_at(40)
    disk.errors.succeeded("h")
    assert not disk.fails_at(80)
    assert disk.errors.failing.keys() == {"h"}


def test_another_operation_is_counted_for_itself() -> None:
    disk = Disk()
    assert not any(disk.fails_at(now_s, str(now_s)) for now_s in (0, 30, 60, 90))


@pytest.mark.parametrize("error", [DiskFull("full"), StorageShortage("descriptors")])
def test_a_shortage_is_never_damage_and_damage_always(error: StorageShortage) -> None:
    disk = Disk()
    for disk.now_s in range(0, 300, 20):
        assert not disk.errors.is_damage("h", error)
    assert disk.errors.is_damage("h", StorageError("torn"))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_errors, "_REMEMBERED", 10)
    disk = Disk()
    for number in range(30):
        disk.fails_at(number / 10, str(number))
    assert len(disk.errors.failing) <= 10
    disk.fails_at(LIMIT_S * 2)
    assert disk.errors.failing.keys() == {"h"}
