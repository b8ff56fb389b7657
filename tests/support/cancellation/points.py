"""Cancels one task at one of the places at which it waits, all of which are found by watching.

A *point* is a task, a place at which it waits, and how it is cancelled there. The place is the chain of
suspended frames, empty before the first step of the task. A task that waits is either cancelled while it
still waits, so that what it waits for is cancelled too, or once it is to continue, so that the result is
lost.

Only tasks are watched that begin while watching is on, and none of the test's own.
"""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

Place = tuple[str, ...]
"""`file:line function` of each suspended frame, the outermost first."""


class How(Enum):
    """When a task is cancelled."""

    BEFORE_FIRST_STEP = "before its first step"
    WAITING = "while it waits"
    CONTINUING = "as it continues"


class Point(NamedTuple):
    """Where and how a task is cancelled."""

    task: str
    """The function that the task runs."""
    place: Place
    how: How

    def __str__(self) -> str:
        return f"{self.task} {self.how.value}: {' > '.join(self.place)}"


class Watch:
    """Sees the points that tasks pass, and cancels the first task that passes the `target`."""

    def __init__(self) -> None:
        self.is_on = False
        self.target: Point | None = None
        self.points: dict[Point, int] = {}
        """How often each was passed."""
        self.cancelled: asyncio.Task[Any] | None = None
        """The task that was cancelled at the target."""

    def begin(self, target: Point | None = None, *, also: Iterable[asyncio.Task[Any]] = ()) -> None:
        """Watch the tasks that begin from now on, and some that began before."""
        self.is_on, self.target, self.cancelled = True, target, None
        for task in also:
            if isinstance(task, WatchedTask):
                task.watch, task.place = self, place_of(task.get_coro())
        self.points = {}

    def end(self) -> None:
        """Watch no further tasks; those that began go on unwatched."""
        self.is_on, self.target = False, None

    def passes(self, task: asyncio.Task[Any], point: Point) -> bool:
        """Note that a task is at a point; return whether it is to be cancelled there."""
        if not self.is_on:
            return False
        self.points[point] = self.points.get(point, 0) + 1
        if self.cancelled is not None or point != self.target:
            return False
        self.cancelled = task
        return True

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the loop make tasks that are watched."""
        loop.set_task_factory(self._make)

    def _make(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        is_ours = "/tests/" not in getattr(work, "cr_code", _NONE).co_filename
        return WatchedTask(self if self.is_on and is_ours else None, work, loop=loop, **options)


_NONE = (lambda: None).__code__.replace(co_filename="")

# The task of the standard library that is written in Python: its steps can be seen.
_Task: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]


class WatchedTask(_Task):  # type: ignore[misc]
    """A task that tells the watch each point before and after each of its steps."""

    def __init__(self, watch: Watch | None, work: Any, **options: Any) -> None:
        self.watch = watch
        self._name_of_work = getattr(work, "__qualname__", repr(work))
        self.place: Place = ()
        super().__init__(work, **options)

    def _Task__step(self, error: BaseException | None = None) -> None:  # noqa: N802
        watch = self.watch
        if watch is None or not watch.is_on:
            super()._Task__step(error)
            return
        how = How.CONTINUING if self.place else How.BEFORE_FIRST_STEP
        if watch.passes(self, Point(self._name_of_work, self.place, how)):
            self.cancel()
        work = self.get_coro()
        super()._Task__step(error)
        if not self.done():
            self.place = place_of(work)
            if watch.passes(self, Point(self._name_of_work, self.place, How.WAITING)):
                self.cancel()


def place_of(work: Any) -> Place:
    """Where a suspended coroutine waits."""
    return tuple(_frames(work))


def _frames(awaited: Any) -> Iterator[str]:
    while awaited is not None:
        if isinstance(awaited, types.CoroutineType):
            frame, awaited = awaited.cr_frame, awaited.cr_await
        elif isinstance(awaited, types.GeneratorType):
            frame, awaited = awaited.gi_frame, awaited.gi_yieldfrom
        elif isinstance(awaited, types.AsyncGeneratorType):
            frame, awaited = awaited.ag_frame, awaited.ag_await
        else:
            awaited = _wrapped(awaited)
            continue
        if frame is not None:
            code = frame.f_code
            yield f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"


def _wrapped(awaited: Any) -> Any:
    """What an object waits for that does not say so: `anext` of a generator, `__await__` of a coroutine."""
    kinds = (types.CoroutineType, types.AsyncGeneratorType)
    return next((one for one in gc.get_referents(awaited) if isinstance(one, kinds)), None)
