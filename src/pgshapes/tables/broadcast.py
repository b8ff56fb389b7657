"""Sends the owner's changes to waiters and links: announced locally at once, sent in frames.

Not a transport: a `Feed` carries frames to another process. Invariants: every feed gets every change made
after it was attached, in frames numbered without a gap. Nothing here waits for a feed except `acknowledged`,
at most 100 ms. State is owned by the owner's event loop.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from pgshapes.logs import get_logger
from pgshapes.tables.deltas import Rows
from pgshapes.tables.frames import Deltas, encode_any_text
from pgshapes.tables.table import Table
from pgshapes.waiting.notice import Notice

_log = get_logger(__name__)

ACKNOWLEDGE_LIMIT_S: Final = 0.1
"""How long a removal waits for a process that does not acknowledge it. It waits for the sake of the requests
of that process, which are held until it has the changes: nothing is served without them.
"""

FRAME_SPACING_S: Final = 0.001
"""Each frame costs a system call per link and wakes every process. A single change is sent at the end of its
loop turn; in a burst, changes are sent together at this interval."""


class Feed(Protocol):
    """One link's sending end."""

    is_live: bool
    """Whether the whole state has been sent; before that the other side serves nothing of this epoch."""
    acknowledged: int
    """Number of the last frame that the other side has applied."""

    def send(self, frame: bytes) -> None:
        """Send an encoded frame without waiting; may detach itself instead."""

    def cut(self) -> None:
        """End the link now and detach. The other side reconnects and gets the whole state."""


class Broadcast:
    """Collects deltas and sends them to every feed, in a burst once per `FRAME_SPACING_S`."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        """Number of the last frame. Changes for which there is no feed have numbers, too."""
        self.late_feeds = 0
        """How many times a feed did not acknowledge in time."""
        self._feeds: set[Feed] = set()
        self._late: dict[Feed, int] = {}
        """The feeds that did not, with the frame; nothing waits for them until they have acknowledged it."""
        self._pending = Rows()
        self._has_pending = False
        self._is_flush_due = False
        self._flushed_at = 0.0
        self._depth = 0
        self._unannounced: list[tuple[Table[Any, Any], Any, Any]] = []
        self._progress = Notice()

    def record(self, table: Table[Any, Any], key: Any, row: Any) -> None:
        """Announce a change, at the end of the transaction if one is open, and collect it for the feeds."""
        if self._depth:
            self._unannounced.append((table, key, row))
        else:
            table.announce(key, row)
        self._has_pending = True
        if self._feeds:
            self._pending.add(table.name, key, row)
            self._schedule_flush()

    def __enter__(self) -> None:
        """Begin a transaction: what is changed until its end is announced then, and sent in one frame. It may
        be part of another one. Must not span an await.
        """
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        """End the transaction."""
        self._depth -= 1
        if self._depth:
            return
        unannounced, self._unannounced = self._unannounced, []
        for table, key, row in unannounced:
            try:
                table.announce(key, row)
            except Exception:  # those that wait for other keys must be woken
                _log.exception("change of a table could not be announced", table=table.name)
        if self._has_pending and self._feeds:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            loop = asyncio.get_running_loop()
            due = self._flushed_at + FRAME_SPACING_S
            if loop.time() < due:
                loop.call_at(due, self._flush_when_due)
            else:
                loop.call_soon(self._flush_when_due)

    def _flush_when_due(self) -> None:
        self._is_flush_due = False
        self.flush()

    def flush(self) -> None:
        """Send what has been collected now rather than when it is due."""
        if self._depth or not self._has_pending:
            return
        pending, self._pending, self._has_pending = self._pending, Rows(), False
        self.number += 1
        if not self._feeds:
            return
        self._flushed_at = asyncio.get_running_loop().time()
        try:
            frame = encode_any_text(Deltas(self.number, pending))
        except Exception:
            # Without these changes the replicas would be wrong; a link that reconnects gets the whole state.
            for feed in tuple(self._feeds):
                feed.cut()
            raise
        for feed in tuple(self._feeds):
            feed.send(frame)

    def attach(self, feed: Feed) -> None:
        """Send `feed` every frame after `number`."""
        self.flush()
        self._feeds.add(feed)

    def detach(self, feed: Feed) -> None:
        """Send `feed` nothing more, and end the waits for its acknowledgement."""
        self._feeds.discard(feed)
        self._late.pop(feed, None)
        self.note_progress()

    def note_progress(self) -> None:
        """Wake the waits for acknowledgements: a feed has acknowledged a frame or was detached."""
        progress, self._progress = self._progress, Notice()
        progress.give()

    async def acknowledged(self) -> int:
        """Wait until every live feed has applied all changes so far, at most 100 ms.

        Returns the number of the frame with the last of these changes.
        """
        self.flush()
        number = self.number
        self._late = {feed: due for feed, due in self._late.items() if feed.acknowledged < due}
        behind = {feed for feed in self._feeds if feed.is_live and feed not in self._late}
        try:
            async with asyncio.timeout(ACKNOWLEDGE_LIMIT_S):
                while behind := self._still_behind(behind, number):
                    await self._progress
        except TimeoutError:
            late = self._still_behind(behind, number)
            self.late_feeds += len(late)
            self._late.update(dict.fromkeys(late, number))
        return number

    def _still_behind(self, feeds: set[Feed], number: int) -> set[Feed]:
        return {feed for feed in feeds if feed in self._feeds and feed.acknowledged < number}
