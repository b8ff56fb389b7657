"""The caller's end of one connection: fills the replica and carries calls.

It does not reconnect; `unix_link` does. Invariants: frames are applied in order, in the loop turn in which
they arrive. When the connection is lost, every wait on it ends, calls with OwnerUnavailable. A frame that
cannot be decoded ends the connection and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from pgshapes.errors import OwnerUnavailable, RequestError, WireError
from pgshapes.tables import frames
from pgshapes.tables.calls import Call, Reply
from pgshapes.tables.replica import TablesReplica
from pgshapes.waiting.notice import Notice

UNSENDABLE: Final = "The request has a text that is not valid Unicode"


class CallerConnection(asyncio.Protocol):
    """One connection to an owner, which sends no tables before `subscribe`."""

    def __init__(self, replica: TablesReplica, on_synced: Callable[[], None]) -> None:
        self.welcome: frames.Welcome | None = None
        self.is_synced = False
        self.is_lost = False
        self.reads = 0
        """How many times data was received."""
        self.welcomed = Notice()
        """Given when the welcome has arrived, or the connection is lost."""
        self.settled = Notice()
        """Given when the replica follows this connection, or the connection is lost."""
        self.lost = Notice()
        self._received = Notice()
        self._replica = replica
        self._on_synced = on_synced
        self._splitter = frames.FrameSplitter()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._last_call_id = 0
        self._unacknowledged: int | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. The owner sends the first frame."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End every wait."""
        self.is_lost = True
        self.is_synced = False
        self._transport = None
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(OwnerUnavailable("the owner went away during a call"))
        for notice in (self.welcomed, self.settled, self._received, self.lost):
            notice.give()

    def data_received(self, data: bytes) -> None:
        """Apply the frames that are complete and acknowledge the last of them."""
        self.reads += 1
        try:
            for payload in self._splitter.feed(data):
                self._take(frames.decode_owner_frame(payload))
        except WireError:
            self.abort()
        self._acknowledge()
        heard, self._received = self._received, Notice()
        heard.give()

    def next_received(self) -> Notice:
        """Given when data is received after this call, or the connection is lost."""
        return self._received

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def subscribe(self) -> None:
        """Request the whole state and every later change, for the replica."""
        self._send(frames.Subscribe())

    async def call(self, call: Call, deadline: float) -> Reply:
        """The owner's reply. Raises what the owner raised, or OwnerUnavailable; RequestError for a text that
        cannot be sent.
        """
        try:
            return cast(Reply, await self._ask(lambda call_id: frames.CallFrame(call_id, deadline, call)))
        except WireError as error:
            if isinstance(error.__cause__, UnicodeEncodeError):
                raise RequestError(UNSENDABLE) from error
            raise

    async def barrier(self) -> None:
        """Wait until everything that the owner wrote before it read this has arrived. Raises
        OwnerUnavailable.
        """
        await self._ask(frames.Barrier)

    async def _ask(self, question: Callable[[int], frames.CallerFrame]) -> Any:
        if self.is_lost:
            raise OwnerUnavailable("the owner cannot be reached")
        self._last_call_id += 1
        call_id = self._last_call_id
        frame = frames.encode(question(call_id))
        future = self._pending[call_id] = asyncio.get_running_loop().create_future()
        self._write(frame)
        try:
            return await future
        finally:
            if self._pending.pop(call_id, None) is not None:
                self._send(frames.Cancel(call_id))

    def _take(self, frame: frames.OwnerFrame) -> None:
        match frame:
            case frames.Deltas(number, rows):
                self._replica.take_deltas(number, rows)
                self._unacknowledged = number
            case frames.Answer(call_id, reply):
                self._resolve(call_id, reply)
            case frames.Failure():
                self._fail(frame)
            case frames.Reached(call_id):
                self._resolve(call_id, None)
            case frames.StateBegin(number):
                self._replica.begin(number)
            case frames.StateSlice(rows):
                self._replica.take_slice(rows)
            case frames.StateEnd(number):
                self._finish_state(number)
            case frames.Welcome():
                self._check_welcome(frame)

    def _check_welcome(self, welcome: frames.Welcome) -> None:
        if welcome.version != frames.VERSION:
            raise WireError(f"the owner's link version is {welcome.version}, not {frames.VERSION}")
        self.welcome = welcome
        self.welcomed.give()

    def _finish_state(self, number: int) -> None:
        if self.welcome is None:
            raise WireError("state received before the welcome")
        self._replica.finish(number, self.welcome.epoch)
        self._unacknowledged = number
        self.is_synced = True
        self.settled.give()
        self._on_synced()

    def _resolve(self, call_id: int, reply: Reply) -> None:
        future = self._pending.pop(call_id, None)
        if future is not None and not future.done():
            future.set_result(reply)

    def _fail(self, failure: frames.Failure) -> None:
        error = frames.restore_error(failure)
        future = self._pending.pop(failure.call_id, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def _acknowledge(self) -> None:
        if self._unacknowledged is not None:
            self._send(frames.Acknowledge(self._unacknowledged))
            self._unacknowledged = None

    def _send(self, frame: frames.CallerFrame) -> None:
        self._write(frames.encode(frame))

    def _write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)
