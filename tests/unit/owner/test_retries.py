"""After any failure there is another attempt; a first start ends with what does not pass."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from pgshapes.errors import (
    ConfigError,
    DiskFull,
    NotNow,
    PgShapesError,
    SourceError,
    StorageError,
    StorageFailing,
    StorageShortage,
    WireError,
)
from pgshapes.gates.conditions import Condition, Conditions, is_met
from pgshapes.owner.retries import Retries
from pgshapes.owner.stream_errors import UnreadableMessage, UnreadableStream
from pgshapes.tables.tables import Tables

NO_THREAD = RuntimeError("can't start new thread")
PASSING = [
    *(SourceError("refused"), StorageShortage("no descriptors"), StorageFailing("EIO"), DiskFull("full")),
    *(NotNow("later"), TimeoutError(), MemoryError(), NO_THREAD),
    *(
        OSError(number, "x")
        for number in (
            *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT),
            *(errno.EAGAIN, errno.EINTR, errno.EIO, errno.ESTALE, errno.EBUSY, errno.ETIMEDOUT),
        )
    ),
    StorageFailing("EIO", errno=errno.EIO),
]
LASTING = [
    *(ConfigError("wal_level"), SourceError("no role", action="operator"), StorageError("damaged")),
    *(KeyError("a defect"), RuntimeError("another one"), OSError("path too long")),
    *(
        OSError(number, "x")
        for number in (
            *(errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EACCES, errno.EPERM, errno.EROFS),
            *(errno.ENOENT, errno.EINVAL, errno.ENXIO, errno.EFBIG, errno.ENOTCONN),
        )
    ),
]
UNUSABLE = [StorageFailing("sync", errno=errno.EOPNOTSUPP), StorageShortage("write", errno=errno.EROFS)]
"""A shape may get over them, a start may not."""


class Attempts:
    """The attempts of an instance."""

    def __init__(self, *, has_started: bool) -> None:
        self.tables = Tables()
        self.conditions = Conditions(self.tables.status)
        self.retries = Retries(self.conditions, "slot", is_restart=has_started)

    def fail(self, error: Exception) -> float:
        return self.retries.pause_after(error, 0.0, None)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.mark.parametrize("error", [*PASSING, *LASTING], ids=repr)
async def test_once_started_everything_is_tried_again(error: Exception, logs: list[Any]) -> None:
    attempts = Attempts(has_started=True)
    attempts.conditions.meet(Condition.LOCK_ACQUIRED)
    assert 0 < attempts.fail(error) < 10
    assert len(logs) == 1
    assert str(error) in logs[0]["error"] or repr(error) == logs[0]["error"]
    assert not is_met(attempts.tables.status, Condition.LOCK_ACQUIRED)
    if not isinstance(error, PgShapesError):
        assert attempts.tables.status["lock_acquired"].error == PgShapesError.shown


def unreadable(lsn: int | None) -> UnreadableMessage:
    error = WireError("what is this?")
    error.details["lsn"] = lsn
    return UnreadableMessage(error, 300, "16.0")


async def test_a_stream_that_cannot_be_read_ends_the_program_at_the_third_time(logs: list[Any]) -> None:
    """Wherever the stream began: what is before the message is acknowledged meanwhile."""
    attempts = Attempts(has_started=True)
    for start in (100, 200):
        assert attempts.retries.pause_after(unreadable(300), 0.0, start) < 10
    with pytest.raises(UnreadableStream, match="0/12C"):
        attempts.retries.pause_after(unreadable(300), 0.0, 200)
    again = "replication stream could not be read; reconnecting"
    assert [line["event"] for line in logs] == [again, again, "replication stream cannot be read"]


async def test_messages_at_other_positions_do_not_end_it() -> None:
    attempts = Attempts(has_started=True)
    for lsn in range(300, 310):
        attempts.retries.pause_after(unreadable(lsn), 0.0, 100)
    for start in range(100, 110):  # without a position, that of the start counts
        attempts.retries.pause_after(unreadable(None), 0.0, start)


@pytest.mark.parametrize("error", PASSING, ids=repr)
async def test_a_first_start_waits_for_what_may_pass(error: Exception, logs: list[Any]) -> None:
    attempts = Attempts(has_started=False)
    assert 0 < attempts.fail(error) < 3
    await attempts.retries.close()
    event = "waiting for the database" if isinstance(error, SourceError) else "waiting for room or resources"
    assert [line["event"] for line in logs] == [event]
    assert logs[0]["reason"]


@pytest.mark.parametrize("error", LASTING, ids=repr)
async def test_a_first_start_ends_with_what_does_not(error: Exception) -> None:
    expected = ConfigError if isinstance(error, SourceError) else type(error)
    with pytest.raises(expected):
        Attempts(has_started=False).fail(error)


@pytest.mark.parametrize("error", UNUSABLE, ids=repr)
async def test_a_first_start_does_not_wait_for_another_disk(error: StorageShortage) -> None:
    with pytest.raises(ConfigError, match=f"{error.message}; choose another with --storage-dir"):
        Attempts(has_started=False).fail(error)
    assert Attempts(has_started=True).fail(error) > 0


async def test_after_the_first_start_it_no_longer_ends() -> None:
    attempts = Attempts(has_started=False)
    await attempts.retries.started()
    assert attempts.fail(ConfigError("wal_level")) > 0


async def test_the_traceback_of_a_defect_is_logged_once(logs: list[Any]) -> None:
    attempts = Attempts(has_started=True)
    for error in (KeyError("a"), KeyError("a"), DiskFull("full"), MemoryError(), KeyError("b")):
        attempts.fail(error)
    assert [line["exc_info"] is not None for line in logs] == [True, False, False, False, True]
