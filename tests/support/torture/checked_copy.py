"""A copy of a shape's rows that checks every message as it arrives.

It holds for one handle. Checked: each message once and in commit order, every change fits the rows, offsets
never go back, no up-to-date within a transaction, and a sum that every transaction keeps. Judges nothing
else. Memory is bounded by the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.ddl.shapes import Rows, frozen
from tests.support.clients.materialised import Row, apply_change
from tests.support.torture.definitions import Watched

from pgshapes.model.offset import BEFORE_ALL, Offset, parse_offset

Message = dict[str, Any]


class Misfit(Exception):
    """A message or a response that must not come."""


@dataclass
class CheckedCopy:
    """The rows of one handle, from its first response on."""

    watched: Watched
    since: float
    """`time.monotonic()` when its first request was sent."""
    handle: str | None = None
    offset: Offset = BEFORE_ALL
    rows: dict[str, Row] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """With `changes_only`: keys that were deleted last."""
    place: Offset = BEFORE_ALL
    """Of the last message of the log."""
    is_up_to_date: bool = False
    is_whole: bool = True
    """Whether the last message of the log ended its transaction."""
    messages: int = 0
    resume: str = "-1"
    """The offset as the server wrote it."""

    def answer(self, handle: str, offset: str, messages: Iterable[Message]) -> bool:
        """Apply a response; whether it ended up to date. Raises Misfit."""
        self.be(handle)
        end = parse_offset(offset)
        if end < self.offset:
            raise Misfit(f"the offset went back from {self.offset} to {end}")
        self.take(messages)
        if self.place > end:
            raise Misfit(f"a message at {self.place} in an answer that ends at {end}")
        self.offset, self.resume = end, offset
        return self.is_up_to_date

    def be(self, handle: str) -> None:
        """The handle of a response. Raises Misfit if it is another one than before."""
        if self.handle not in (None, handle):
            raise Misfit(f"the handle changed from {self.handle} to {handle} without a 409")
        self.handle = handle

    def take(self, messages: Iterable[Message]) -> None:
        """Apply messages. Raises Misfit."""
        self.is_up_to_date = False
        for message in messages:
            self._apply(message)

    def observed(self) -> Rows:
        """The rows."""
        return frozen(self.rows)

    def _apply(self, message: Message) -> None:
        headers = message["headers"]
        self.messages += 1
        control = headers.get("control")
        if control == "up-to-date":
            self._check_state()
            self.is_up_to_date = True
        elif control is None:
            self.is_up_to_date = False
            if "lsn" in headers:
                self._note_place(headers, message)
            self._change(message)

    def _note_place(self, headers: dict[str, Any], message: Message) -> None:
        place = Offset(int(headers["lsn"]), headers["op_position"])
        if place <= max(self.place, self.offset):
            raise Misfit(
                f"sent twice, or out of order: {place} after {max(self.place, self.offset)}: {message}"
            )
        if not self.is_whole and place.tx != self.place.tx:
            raise Misfit(f"a transaction without its last message, before {message}")
        self.place, self.is_whole = place, bool(headers.get("last"))

    def _change(self, message: Message) -> None:
        if self.watched.is_changes_only:
            self._change_partly(message)
            return
        try:
            apply_change(self.rows, message)
        except AssertionError as error:
            raise Misfit(str(error)) from None

    def _change_partly(self, message: Message) -> None:
        """Rows from before the log began are not known."""
        key, operation = message["key"], message["headers"]["operation"]
        if operation == "insert" and key in self.rows:
            raise Misfit(f"inserted twice: {message}")
        if operation == "delete":
            self.rows.pop(key, None)
            self.gone.add(key)
            return
        if operation == "update" and key in self.gone:
            raise Misfit(f"updated but deleted before: {message}")
        self.gone.discard(key)
        self.rows[key] = self.rows.get(key, {}) | message["value"]

    def _check_state(self) -> None:
        if not self.is_whole:
            raise Misfit(f"up to date within the transaction of {self.place}")
        total = self.watched.total
        if total is not None:
            found = sum(int(row["balance"] or 0) for row in self.rows.values())
            if found != total:
                raise Misfit(f"the balances sum up to {found} at {self.place}, not to {total}")
