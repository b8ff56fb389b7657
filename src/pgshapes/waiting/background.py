"""Begins background tasks, each together with what happens at its end.

Race: a task that is cancelled before its first step never enters its code, so no `finally` in it runs. Work
that was given a connection, a slot or a waiting caller would keep it for good. So what a task holds is not
released by the task's own code, but by a callback that is added in the loop turn in which the task is made.

Invariant: `at_end` is called once, also if the task never took a step. It does not wait. State: none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def holds_nothing(_: asyncio.Task[Any]) -> None:
    """The `at_end` of a task that was given nothing that has to be released."""


def begin(work: Coroutine[Any, Any, T], *, at_end: Callable[[asyncio.Task[T]], object]) -> asyncio.Task[T]:
    """Run `work` in a task; `at_end` is called with the task when it has ended, however it ended.

    It is called before the tasks that await this one continue.
    """
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(at_end)
    return task
