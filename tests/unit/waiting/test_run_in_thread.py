"""A cancellation is raised when the function in the thread has ended."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pgshapes.waiting.run_in_thread import to_its_end


async def test_the_result_and_the_error() -> None:
    assert await to_its_end(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await to_its_end(divmod, 7, 0)


@pytest.mark.parametrize("outcome", ["a result", "an error"])
async def test_a_cancelled_task_waits_for_the_function(outcome: str) -> None:
    gate, ended = threading.Event(), list[int]()

    def work() -> None:
        gate.wait(20)
        ended.append(1)
        if outcome == "an error":
            raise ValueError

    task = asyncio.create_task(to_its_end(work))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1]
