"""A background loop survives whatever it raises, and says so once."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from structlog.testing import capture_logs

from pgshapes.errors import StorageError
from pgshapes.waiting.keep_running import keep_running

ERRORS = [
    OSError(errno.EIO, "I/O error"),
    OSError(errno.EMFILE, "too many open files"),
    StorageError("the disk fails"),
    MemoryError(),
    RecursionError(),
    TypeError("a defect"),
]


def failing_times(times: int, error: Exception) -> Callable[[], Awaitable[None]]:
    """A loop that fails so many times, and then ends."""
    left = times

    async def work() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error

    return work


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await keep_running("the test", work, first_pause_s=0, longest_pause_s=0)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_it_is_begun_again_after_any_error_and_logged_once(error: Exception) -> None:
    with capture_logs() as lines:
        await _run(failing_times(5, error))
    assert [line["event"] for line in lines] == ["background task failed; restarting it"]
    assert lines[0]["task"] == "the test"
    assert (lines[0]["exc_info"] is None) == isinstance(error, OSError | StorageError)


async def test_another_error_is_logged_again() -> None:
    errors = iter([OSError("one"), OSError("one"), OSError("two")])

    async def work() -> None:
        for error in errors:
            raise error

    with capture_logs() as lines:
        await _run(work)
    assert len(lines) == 2


async def test_it_can_be_cancelled() -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(keep_running("the test", work))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_can_be_cancelled_during_a_pause() -> None:
    task = asyncio.ensure_future(keep_running("the test", failing_times(1000, OSError("disk"))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_end_of_a_loop_is_the_end() -> None:
    ended: list[bool] = []
    await _run(partial(_note, ended))
    assert ended == [True]


async def _note(ended: list[bool]) -> None:
    ended.append(True)
