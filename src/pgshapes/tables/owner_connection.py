"""The owner's end of one connection: sends the whole state and deltas, receives calls.

Invariants: nothing here waits for the caller. Bytes that it does not read are buffered up to a limit; then
the connection is cut. The whole state is sent in slices, one per loop turn, as fast as the caller reads them.
A frame that cannot be decoded ends this connection and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, cast

from pgshapes.errors import PgShapesError, WireError
from pgshapes.tables import frames
from pgshapes.tables.calls import Reply
from pgshapes.tables.deltas import Rows
from pgshapes.tables.mailbox import CallContext, Mailbox
from pgshapes.tables.table import TableReader
from pgshapes.tables.tables import Tables
from pgshapes.tables.tables_reader import TABLES

MAX_UNSENT_BYTES: Final = 16 * 2**20
"""For a caller that is this far behind, sending the whole state costs less than the deltas."""
SLICE_ROWS: Final = 256
"""About 0.3 ms to read and encode; a relation's row is the largest, some kilobytes."""
_PAUSE_ABOVE_BYTES: Final = 2**18
_MAX_PLAIN_TEXT: Final = 10_000
"""Of an error whose attributes cannot be sent."""


class OwnerConnection(asyncio.Protocol):
    """One caller process, as the owner sees it. A `Feed` of the broadcast once it has subscribed."""

    def __init__(self, tables: Tables, mailbox: Mailbox, connections: set[OwnerConnection]) -> None:
        self.is_live = False
        self.acknowledged = -1
        self._tables = tables
        self._mailbox = mailbox
        self._connections = connections
        self._splitter = frames.FrameSplitter()
        self._contexts: dict[int, CallContext] = {}
        self._slices: Iterator[Rows] | None = None
        self._is_paused = False
        self._is_slice_due = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the welcome."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_PAUSE_ABOVE_BYTES)
        self._connections.add(self)
        self.send(frames.encode(frames.Welcome(frames.VERSION, self._tables.epoch)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Detach from the broadcast and cancel the calls of this caller."""
        self._detach()

    def data_received(self, data: bytes) -> None:
        """Handle the frames that are complete."""
        try:
            for payload in self._splitter.feed(data):
                self._take(frames.decode_caller_frame(payload))
        except WireError:
            self.cut()

    def pause_writing(self) -> None:
        """Pause the state: the caller reads more slowly than it is sent."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Continue the state: the caller has caught up."""
        self._is_paused = False
        self._schedule_slice()

    def send(self, frame: bytes) -> None:
        """Send a frame, or cut the connection when too much is unsent already."""
        if self._transport is None:
            return
        self._transport.write(frame)
        if self._is_paused and self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.cut()

    def cut(self) -> None:
        """End the connection at once, unsent bytes included."""
        transport = self._transport
        self._detach()
        if transport is not None:
            transport.abort()

    def _detach(self) -> None:
        self._transport = None
        self._slices = None
        self._connections.discard(self)
        self._tables.broadcast.detach(self)
        contexts, self._contexts = self._contexts, {}
        for context in contexts.values():
            context.cancel()

    def _take(self, frame: frames.CallerFrame) -> None:
        match frame:
            case frames.CallFrame():
                self._begin_call(frame)
            case frames.Acknowledge(number):
                self.acknowledged = max(self.acknowledged, number)
                self._tables.broadcast.note_progress()
            case frames.Cancel(call_id):
                context = self._contexts.pop(call_id, None)
                if context is not None:
                    context.cancel()
            case frames.Barrier(call_id):
                self._tables.broadcast.flush()
                self.send(frames.encode(frames.Reached(call_id)))
            case frames.Subscribe():
                self._begin_state()

    def _begin_call(self, frame: frames.CallFrame) -> None:
        call_id = frame.call_id
        if call_id in self._contexts:
            raise WireError(f"call {call_id} was sent twice")

        def answer(result: Reply | PgShapesError) -> None:
            self._contexts.pop(call_id, None)
            self._tables.broadcast.flush()
            self.send(_answer_frame(call_id, result))

        self._contexts[call_id] = self._mailbox.receive(frame.call, frame.deadline, answer)

    def _begin_state(self) -> None:
        broadcast = self._tables.broadcast
        broadcast.attach(self)
        self.send(frames.encode(frames.StateBegin(broadcast.number)))
        self._slices = state_slices(self._tables)
        self._schedule_slice()

    def _schedule_slice(self) -> None:
        if self._slices is not None and not self._is_slice_due:
            self._is_slice_due = True
            asyncio.get_running_loop().call_soon(self._send_slice)

    def _send_slice(self) -> None:
        self._is_slice_due = False
        if self._slices is None or self._is_paused:
            return
        rows = next(self._slices, None)
        if rows is None:
            self._end_state()
        else:
            self.send(frames.encode_any_text(frames.StateSlice(rows)))
            self._schedule_slice()

    def _end_state(self) -> None:
        broadcast = self._tables.broadcast
        self._slices = None
        broadcast.flush()
        self.is_live = True
        self.send(frames.encode(frames.StateEnd(broadcast.number)))


def state_slices(tables: Tables) -> Iterator[Rows]:
    """All rows in bounded pieces, each read when it is taken; deltas sent meanwhile complete them."""
    for name in TABLES:
        table: TableReader[Any, Any] = getattr(tables, name)
        keys = [key for key, _ in table.items()]
        for start in range(0, len(keys), SLICE_ROWS):
            rows = Rows()
            for key in keys[start : start + SLICE_ROWS]:
                row = table.get(key)
                if row is not None:
                    rows.add(name, key, row)
            yield rows


def _answer_frame(call_id: int, result: Reply | PgShapesError) -> bytes:
    """The frame of an answer; of an error if it cannot be encoded, which concerns its call alone."""
    if not isinstance(result, PgShapesError):
        try:
            return frames.encode(frames.Answer(call_id, result))
        except WireError as error:
            result = error
    try:
        return frames.encode_any_text(frames.failure_frame(call_id, result))
    except WireError:
        plain = PgShapesError(f"{type(result).__name__}: {result.message[:_MAX_PLAIN_TEXT]}")
        return frames.encode_any_text(frames.failure_frame(call_id, plain))
