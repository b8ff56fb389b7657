"""A client that follows one shape: what all kinds of clients share.

A kind of client makes requests and passes on what it got; here answers are checked, refetches noted, and a
copy begun again. State: the task of a follower is the only writer of its copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import httpx
from tests.oracle.ddl.follower import Births, Standing
from tests.support.torture.checked_copy import CheckedCopy, Message, Misfit
from tests.support.torture.definitions import Watched
from tests.support.torture.judge import Judge

PAUSE_S = 0.1
LONGEST_AGAIN_S = 5.0


class Follower:
    """One client; `run` in a task."""

    kind = ""

    def __init__(self, url: str, watched: Watched, judge: Judge, births: Births) -> None:
        self.watched = watched
        self.name = f"{self.kind} {watched}"
        self.standing = Standing.STARTING
        self.answer = ""
        """What the last answer said, if it was not 200."""
        self.heard_at = time.monotonic()
        """When the last answer with rows or up-to-date came."""
        self.copy = CheckedCopy(watched, self.heard_at)
        self._url = url
        self._judge = judge
        self._births = births
        self._ended: set[str] = set()
        self._misfits = 0
        """In a row: the same log is likely to fit no better when it is read again."""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._follow()
            except Misfit as error:
                self._judge.violate("a message that does not fit", self.name, str(error))
                await self._again()
            except httpx.HTTPError as error:
                self.stand(Standing.UNAVAILABLE, repr(error))
                await asyncio.sleep(PAUSE_S)

    async def _follow(self) -> None:
        """Make requests until one fails."""
        raise NotImplementedError

    async def _again(self) -> None:
        """Begin a new copy after a misfit."""
        self.begin()
        self._misfits += 1
        await asyncio.sleep(min(PAUSE_S * 2**self._misfits, LONGEST_AGAIN_S))

    def begin(self) -> None:
        """A copy without rows or handle."""
        self.stand(Standing.STARTING, "")
        self.copy = CheckedCopy(self.watched, time.monotonic())

    def stand(self, standing: Standing, text: str) -> None:
        """What the last answer was."""
        self.standing, self.answer = standing, text

    def take(self, handle: str, offset: str, messages: Sequence[Message]) -> bool:
        """Check an answer; whether it is up to date. Raises Misfit."""
        self._check_handle(handle)
        before = self.copy.messages
        try:
            is_up_to_date = self.copy.answer(handle, offset, messages)
        finally:
            self.count(self.copy.messages - before)
        self._births.note(handle, self.copy.since)
        if is_up_to_date:
            self.be_up_to_date()
        else:
            self.hear()
        return is_up_to_date

    def be_up_to_date(self) -> None:
        """The copy is at the end of the log."""
        assert self.copy.handle is not None
        self._judge.complete.add(self.copy.handle)
        self._judge.totals.states += 1
        self._misfits = 0
        self.stand(Standing.FOLLOWING, "")
        self.hear()

    def count(self, messages: int) -> None:
        """Add to the totals."""
        self._judge.totals.messages += messages
        self._judge.totals.answers += 1

    def hear(self) -> None:
        """An answer with a part of the shape has come."""
        now = time.monotonic()
        totals = self._judge.totals
        totals.longest_silence_s = max(totals.longest_silence_s, now - self.heard_at)
        self.heard_at = now

    def refetch(self) -> None:
        """A 409 has come: begin again."""
        handle = self.copy.handle or ""
        born = self._births.note(handle, self.copy.since) if handle else self.copy.since
        self._judge.refetch(self.watched, self.name, handle, born)
        if handle:
            self._ended.add(handle)
        self.begin()

    def refuse(self, text: str) -> None:
        """A 4xx has come, which only a change of the table can explain."""
        self.begin()
        self.stand(Standing.REFUSED, text)

    def _check_handle(self, handle: str) -> None:
        if handle in self._ended:
            raise Misfit(f"the handle {handle} was ended by a 409 and has come back")

    async def close(self) -> None:
        """Release what the client holds."""


async def run_until_cancelled(followers: Sequence[Follower], stop: asyncio.Event) -> None:
    """Run followers until `stop` is set; the error of one ends all."""
    tasks = [asyncio.create_task(one.run(), name=one.name) for one in followers]
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            task.result()
    finally:
        for task in (*tasks, waiting):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, waiting, return_exceptions=True)
        for one in followers:
            await one.close()
