"""The replication stream: a walsender connection in COPY mode, read in the event loop (manual: Streaming
Replication Protocol).

Not here: decoding the messages (`pgoutput`), and deciding what to acknowledge (the caller). It never
reconnects: the end of the stream is an error.

Invariants: libpq's buffer is drained before waiting for the socket, but each turn returns to the loop after a
few milliseconds. Status is sent in time even while reading is paused, so the server does not time out. Only
positions that the caller acknowledged are sent as flushed. A server that has sent nothing for a third of
wal_sender_timeout is asked for a reply; the stream ends when it has sent nothing for the whole of it, unless
the server itself says that its walsender works. State: the stream owns the connection, the positions, and the
callbacks registered in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, NoReturn, Self

import psycopg
from psycopg import pq

from pgshapes.errors import SourceError, WireError
from pgshapes.model.lsn import Lsn, format_lsn
from pgshapes.model.quoting import quote_identifier, quote_literal
from pgshapes.postgres.bounded_connection import has_input
from pgshapes.postgres.connection import Connection
from pgshapes.postgres.sqlstate import RETRY, WAIT, from_sqlstate
from pgshapes.waiting.background import begin

PAYLOAD_START: Final = 25
"""Offset of the message in XLogData: after kind, start, end and time."""

_positions_at = struct.Struct("!QQ").unpack_from
_keepalive_at = struct.Struct("!QQB")
_status = struct.Struct("!cQQQqB")
_EPOCH_S: Final = 946_684_800
"""2000-01-01 as Unix time; the epoch of Postgres timestamps."""


class Keepalive(NamedTuple):
    """A primary keepalive message: the server's position."""

    wal_end: Lsn
    wants_reply: bool


def positions_of(data: bytes | memoryview) -> tuple[Lsn, Lsn]:
    """The start and end positions in XLogData. Raises WireError if it contains no message."""
    if len(data) <= PAYLOAD_START:
        raise WireError(f"XLogData of {len(data)} bytes")
    start, end = _positions_at(data, 1)
    return start, end


def decode_keepalive(data: bytes | memoryview) -> Keepalive:
    """A primary keepalive message. Raises WireError for anything else."""
    if data[:1] != b"k" or len(data) != 1 + _keepalive_at.size:
        raise WireError(f"unknown replication message {bytes(data[:1])!r} of {len(data)} bytes")
    wal_end, _, wants_reply = _keepalive_at.unpack_from(data, 1)
    return Keepalive(wal_end, bool(wants_reply))


def encode_status(received: Lsn, flushed: Lsn, now_s: float, *, wants_reply: bool = False) -> bytes:
    """A standby status update with the received and the flushed position."""
    microseconds = int((now_s - _EPOCH_S) * 1_000_000)
    return _status.pack(b"r", max(received, flushed), flushed, flushed, microseconds, wants_reply)


OnMessage = Callable[[bytes, Lsn], None]
"""Called with a pgoutput message and its position: that of the change's own record in the WAL; 0 for what
describes relations and types.
"""
OnKeepalive = Callable[[Lsn], None]
"""Called with the server's position: everything before it has been sent."""

_OPTIONS: Final = "proto_version '1', binary 'false', messages 'false', streaming 'false'"
"""Of pgoutput: whole transactions after their commit, values as text. They are named because defaults change;
14 to 18 know these. Whether prepared transactions are sent is a property of the slot (`slot.find_slot`)."""

_TURN_S: Final = 0.002
"""How long one turn may block the loop; enough for hundreds of messages."""
_STATUS_INTERVAL_S: Final = 10.0
_SILENCE_LIMIT_S: Final = 60.0
"""If the server has no wal_sender_timeout. The default of that, and of wal_receiver_timeout."""
_LEAST_SILENCE_LIMIT_S: Final = 3.0
_STATUS_DELAY_S: Final = 0.1
"""Acknowledgements within this time are sent together."""
_SLOT_RETRY_S: Final = 0.2
_END_TIMEOUT_S: Final = 2.0
"""A walsender that sends a large transaction does not react in time; the connection is closed then."""

_XLOG_DATA: Final = ord("w")


class ReplicationStream:
    """One START_REPLICATION command. Owns the given walsender connection."""

    def __init__(
        self,
        connection: Connection,
        *,
        slot: str,
        publication: str,
        start_lsn: Lsn = 0,
    ) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._slot = slot
        self._publication = publication
        self._received = start_lsn
        self._acknowledged = start_lsn
        self._socket = -1
        self._is_streaming = False
        self._is_paused = False
        self._is_writing = False
        self._status_interval_s = _STATUS_INTERVAL_S
        self._silence_limit_s = _SILENCE_LIMIT_S
        self.is_silent = False
        """Whether the stream was left because the server sent nothing."""
        self._judging: asyncio.Task[None] | None = None
        self._heard_at = time.monotonic()
        self._on_message: OnMessage = _no_message
        self._on_keepalive: OnKeepalive = _no_keepalive
        self._ended: asyncio.Future[None] | None = None
        self._next_turn: asyncio.Handle | None = None
        self._regular_status: asyncio.TimerHandle | None = None
        self._early_status: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def received_lsn(self) -> Lsn:
        """The highest position received from the server."""
        return self._received

    @property
    def heard_at(self) -> float:
        """When the server sent something for the last time, in time.monotonic()."""
        return self._heard_at

    @property
    def is_doubtful(self) -> bool:
        """Whether the server has not answered a request for a reply."""
        return self._is_running and self._silent_s() > 2 * self._status_interval_s

    async def start(self, slot_wait_s: float = 10.0) -> None:
        """Start streaming at the slot's confirmed position, or at `start_lsn` if that is later.

        Waits up to `slot_wait_s` for a slot that is in use. Raises SourceError.
        """
        deadline = time.monotonic() + slot_wait_s
        self._note_timeout(await self._read_timeout())
        while True:
            try:
                await self._start_replication()
                return
            except psycopg.Error as error:
                ours = from_sqlstate(error)
                if ours.action != WAIT or time.monotonic() >= deadline:
                    raise ours from error
            await asyncio.sleep(_SLOT_RETRY_S)

    async def run(self, on_message: OnMessage, on_keepalive: OnKeepalive) -> None:
        """Call the callbacks until the stream ends (raises SourceError), is closed, or this is cancelled.

        An exception in a callback ends the stream and is raised here, a WireError with the position of the
        message as `lsn` in its details. A callback may pause and acknowledge.
        """
        self._on_message, self._on_keepalive = on_message, on_keepalive
        self._ended = ended = asyncio.get_running_loop().create_future()
        self._heard_at = time.monotonic()
        try:
            self._run_step(self._send_status_regularly)
            if self._is_running and not self._is_paused:
                self._start_reading()
            await ended
        finally:
            self._unregister()

    def acknowledge(self, lsn: Lsn) -> None:
        """Allow the server to remove WAL before `lsn`. Lower positions than before are ignored."""
        if lsn <= self._acknowledged:
            return
        self._acknowledged = lsn
        if self._early_status is None and self._is_running:
            loop = asyncio.get_running_loop()
            self._early_status = loop.call_later(_STATUS_DELAY_S, self._run_step, self._send_status)

    def pause(self) -> None:
        """Stop reading the socket, so that the server waits; status is still sent."""
        if not self._is_paused:
            self._is_paused = True
            if self._is_running:
                asyncio.get_running_loop().remove_reader(self._socket)

    def resume(self) -> None:
        """Continue reading."""
        if self._is_paused:
            self._is_paused = False
            self._heard_at = time.monotonic()
            if self._is_running:
                self._start_reading()

    async def close(self) -> None:
        """Send the last status, end the COPY if the server reacts in time, and close the connection."""
        self._unregister()
        if self._is_streaming and self._connection.pgconn.status == pq.ConnStatus.OK:
            with contextlib.suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(_END_TIMEOUT_S):
                    await self._end_copy()
        self._is_streaming = False
        await self._connection.close()

    @property
    def _is_running(self) -> bool:
        return self._ended is not None and not self._ended.done()

    async def _read_timeout(self) -> float:
        """The server's wal_sender_timeout, in seconds; 0 if it has none."""
        try:
            cursor = await self._connection.execute(
                b"SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'"
            )
            row = await cursor.fetchone()
        except psycopg.Error as error:
            raise from_sqlstate(error) from error
        return int(row[0]) / 1000 if row else 0.0

    def _note_timeout(self, timeout_s: float) -> None:
        timeout_s = timeout_s or _SILENCE_LIMIT_S
        self._status_interval_s = min(timeout_s / 3, _STATUS_INTERVAL_S)
        self._silence_limit_s = max(timeout_s, _LEAST_SILENCE_LIMIT_S)

    async def _start_replication(self) -> None:
        publication = quote_literal(quote_identifier(self._publication))
        cursor = await self._connection.execute(
            f"START_REPLICATION SLOT {quote_identifier(self._slot)} LOGICAL {format_lsn(self._acknowledged)}"
            f" ({_OPTIONS}, publication_names {publication})".encode()
        )
        result = cursor.pgresult
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            raise SourceError("Postgres did not start replication")
        self._pgconn.nonblocking = 1
        self._socket = self._pgconn.socket
        self._is_streaming = True

    def _start_reading(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._run_step, self._on_readable)
        self._schedule_take()

    def _schedule_take(self) -> None:
        """Return to the loop, then process what libpq has buffered."""
        if self._next_turn is None:
            self._next_turn = asyncio.get_running_loop().call_soon(self._run_step, self._take_messages)

    def _on_readable(self) -> None:
        if self._next_turn is None:
            self._pgconn.consume_input()
            self._take_messages()

    def _take_messages(self) -> None:
        """Process what libpq has buffered, for one turn."""
        self._next_turn = None
        self._heard_at = time.monotonic()
        turn_ends = self._heard_at + _TURN_S
        get_copy_data = self._pgconn.get_copy_data
        while not self._is_paused:
            size, data = get_copy_data(1)
            if size == 0:
                return
            if size < 0:
                self._end()
            self._take(data)
            if time.monotonic() >= turn_ends:
                self._schedule_take()
                return

    def _take(self, data: memoryview) -> None:
        if data[0] == _XLOG_DATA:
            lsn, wal_end = positions_of(data)
            self._received = max(self._received, wal_end)
            try:
                self._on_message(bytes(data[PAYLOAD_START:]), lsn)
            except WireError as error:
                error.details["lsn"] = lsn
                raise
            return
        keepalive = decode_keepalive(data)
        self._received = max(self._received, keepalive.wal_end)
        self._on_keepalive(keepalive.wal_end)
        if keepalive.wants_reply:
            self._send_status()

    def _end(self) -> NoReturn:
        """Raise the error with which the server ended the stream."""
        self._is_streaming = False
        result = self._pgconn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
        raise SourceError("Postgres ended replication", action=RETRY)

    def _send_status_regularly(self) -> None:
        loop = asyncio.get_running_loop()
        silent_s = self._silent_s()
        self._send_status(wants_reply=silent_s >= self._status_interval_s / 2)
        self._regular_status = loop.call_later(
            self._status_interval_s, self._run_step, self._send_status_regularly
        )
        if silent_s >= self._silence_limit_s and self._judging is None:
            self._judging = begin(self._judge_silence(), at_end=self._judged)

    def _judged(self, _: asyncio.Task[None]) -> None:
        self._judging = None

    def _silent_s(self) -> float:
        """For how long the server has sent nothing; 0 while nothing is read, or something can be."""
        if self._is_paused or self._next_turn is not None or has_input(self._socket):
            return 0.0
        return time.monotonic() - self._heard_at

    async def _judge_silence(self) -> None:
        """End the stream, unless the walsender works or has sent something meanwhile: it may decode for long
        without sending anything.
        """
        is_working = await self._connection.is_working()
        silent_s, ended = self._silent_s(), self._ended
        if silent_s < self._silence_limit_s or ended is None or ended.done():
            return
        if is_working:
            self._heard_at = time.monotonic()
            return
        self.is_silent = True
        ended.set_exception(SourceError(f"Postgres has sent nothing for {silent_s:.0f} s", action=RETRY))

    def _send_status(self, *, wants_reply: bool = False) -> None:
        if self._early_status is not None:
            self._early_status.cancel()
            self._early_status = None
        # While bytes are waiting to be sent, skip this status; a later one contains the same information.
        if not self._is_writing:
            status = encode_status(self._received, self._acknowledged, time.time(), wants_reply=wants_reply)
            self._pgconn.put_copy_data(status)
            self._flush()

    def _flush(self) -> None:
        is_unsent = self._pgconn.flush() == 1
        if is_unsent == self._is_writing:
            return
        self._is_writing = is_unsent
        loop = asyncio.get_running_loop()
        if is_unsent:
            loop.add_writer(self._socket, self._run_step, self._flush)
        else:
            loop.remove_writer(self._socket)

    def _run_step(self, step: Callable[[], None]) -> None:
        """Run a callback of the loop; an exception ends the stream."""
        ended = self._ended
        if ended is None or ended.done():
            return
        try:
            step()
        except psycopg.Error as error:
            ours = from_sqlstate(error)
            ours.__cause__ = error
            ended.set_exception(ours)
        except Exception as error:
            ended.set_exception(error)
        if ended.done():
            self._unregister()

    def _unregister(self) -> None:
        """Remove all readers, writers and timers from the loop."""
        ended, self._ended = self._ended, None
        if ended is None:
            return
        if not ended.done():
            ended.set_result(None)
        for handle in (self._regular_status, self._early_status, self._next_turn):
            if handle is not None:
                handle.cancel()
        self._regular_status = self._early_status = self._next_turn = None
        if self._judging is not None:
            self._judging.cancel()
        # By number, because libpq closes the socket when the connection breaks.
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._is_writing = False

    async def _end_copy(self) -> None:
        """Send the last status and CopyDone, then discard messages until the server ends the COPY."""
        pgconn, loop = self._pgconn, asyncio.get_running_loop()
        pgconn.put_copy_data(encode_status(self._received, self._acknowledged, time.time()))
        pgconn.put_copy_end()
        while pgconn.flush() == 1:
            await _ready(self._socket, loop.add_writer, loop.remove_writer)
        while (size := pgconn.get_copy_data(1)[0]) >= 0:
            if size == 0:
                await _ready(self._socket, loop.add_reader, loop.remove_reader)
                pgconn.consume_input()


async def _ready(
    socket: int, add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], bool]
) -> None:
    is_ready = asyncio.Event()
    add(socket, is_ready.set)
    try:
        await is_ready.wait()
    finally:
        remove(socket)


def _no_message(_: bytes, __: Lsn) -> None:
    """Before `run` nothing is handed on."""


def _no_keepalive(_: Lsn) -> None:
    """Before `run` nothing is handed on."""
