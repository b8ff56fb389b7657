"""Followers on the published TypeScript client, all in one process of Node."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.node_program import NodeProgram
from tests.oracle.ddl.follower import Births
from tests.support.torture.checked_copy import Message, Misfit
from tests.support.torture.definitions import Watched
from tests.support.torture.follower import Follower
from tests.support.torture.judge import Judge

from pgshapes.model.offset import Offset

SCRIPT = "torture.mjs"


class TypescriptFollower(Follower):
    """What one stream of the Node process tells."""

    def __init__(self, url: str, watched: Watched, judge: Judge, births: Births, *, is_sse: bool) -> None:
        self.kind = "typescript sse" if is_sse else "typescript"
        super().__init__(url, watched, judge, births)
        self.is_sse = is_sse
        self._skips = False
        """After a misfit: until the stream is told to fetch again."""

    @property
    def options(self) -> dict[str, Any]:
        """The options of its stream."""
        return self.watched.for_typescript | ({"liveSse": True} if self.is_sse else {})

    def read(self, line: dict[str, Any]) -> None:
        """Take a line of the process."""
        if "error" in line:
            self._skips = False
            self.refuse(f"{line['status']} {line['error'][:300]}")
            return
        messages = line["messages"]
        if any(one["headers"].get("control") == "must-refetch" for one in messages):
            self._skips = False
            self.refetch()
        elif not self._skips:
            try:
                self._take(line["handle"], messages)
            except Misfit as error:
                self._skips = True
                self._judge.violate("a message that does not fit", self.name, str(error))

    def _take(self, handle: str, messages: Sequence[Message]) -> None:
        self._check_handle(handle)
        copy = self.copy
        copy.be(handle)
        self._births.note(handle, copy.since)
        before = copy.messages
        copy.take(self._fresh(messages) if self.is_sse else messages)
        self.count(copy.messages - before)
        if copy.is_up_to_date:
            self.be_up_to_date()
        else:
            self.hear()

    def _fresh(self, messages: Sequence[Message]) -> list[Message]:
        """Without what a stream sends again: this client continues from the first operation of the last
        transaction.
        """
        place = self.copy.place
        return [one for one in messages if not _is_again(one, place)]


def _is_again(message: Message, place: Offset) -> bool:
    headers = message["headers"]
    if "lsn" not in headers:
        return False
    return int(headers["lsn"]) == place.tx and headers["op_position"] <= place.op


def times_it_left_sse(errors: Path) -> int:
    """How often a stream of the client fell back to long polls, by what it prints."""
    return errors.read_text(errors="replace").count("Falling back to long polling") if errors.exists() else 0


class TypescriptProcess:
    """Runs the process that its followers listen to; starts it again if it ends."""

    def __init__(self, url: str, followers: Sequence[TypescriptFollower], judge: Judge, errors: Path) -> None:
        self._url = url
        self._errors = errors
        """What it prints beside its lines."""
        self._followers = followers
        self._judge = judge

    async def run(self) -> None:
        """Pass lines on until cancelled."""
        while True:
            for one in self._followers:
                one.begin()
            with contextlib.suppress(EOFError, TimeoutError):
                async with NodeProgram(
                    SCRIPT, self._url, _as_json(self._followers), errors=self._errors
                ) as program:
                    while True:
                        line = await program.line()
                        self._followers[line["n"]].read(line)
            self._judge.violate("the process of the published client has ended", "typescript", "")
            await asyncio.sleep(1)


def _as_json(followers: Sequence[TypescriptFollower]) -> str:
    return json.dumps([one.options for one in followers])
