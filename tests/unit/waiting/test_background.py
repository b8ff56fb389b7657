"""A background task has an end, whether it took a step or not."""

from __future__ import annotations

import asyncio

import pytest

from pgshapes.waiting.background import begin


async def work() -> str:
    await asyncio.sleep(0)
    return "done"


async def fail() -> str:
    raise LookupError("none")


@pytest.mark.parametrize("steps", [0, 1, 5])
async def test_the_end_is_called_once(steps: int) -> None:
    ended: list[asyncio.Task[str]] = []
    task = begin(work(), at_end=ended.append)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert ended == [task]
    assert task.cancelled() == (steps < 5)


async def test_the_end_is_called_before_those_that_await_the_task_continue() -> None:
    order: list[str] = []
    task = begin(work(), at_end=lambda _: order.append("end"))
    order.append(await task)
    assert order == ["end", "done"]


async def test_the_end_sees_the_error() -> None:
    errors: list[BaseException | None] = []
    task = begin(fail(), at_end=lambda task: errors.append(task.exception()))
    with pytest.raises(LookupError):
        await task
    assert [type(error) for error in errors] == [LookupError]
