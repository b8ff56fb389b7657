"""Sends live changes as server-sent events (docs/protocol.md).

A stream sends what is pending, then each piece when it is written, with `up-to-date` at the end of the log.
It ends when its time is over, at the end that the log has then, and at once when the process stops.
Deliberate differences from Electric: a stream that begins with pending data goes on, because clients take a
stream that ends early for one that a proxy has cut, and fall back to long polls; the end of the next chunk is
computed from the stream's current position, not from its start; while the process runs, no stream ends at the
end of a chunk, because a client discards data that is not followed by `up-to-date`; `electric-offset` is the
start of the stream, so that nothing is lost when a connection breaks.

`up-to-date` has the LSN of the last message sent, not a later one: the client continues from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, NamedTuple

import orjson

from pgshapes.errors import NotReady, OwnerUnavailable, StaleTables
from pgshapes.http_api import decide
from pgshapes.http_api.answers import Answers, ResolvedRequest
from pgshapes.http_api.body_cache import BodyCache, up_to_date
from pgshapes.http_api.decide import Wake
from pgshapes.http_api.large_body import events_of
from pgshapes.http_api.live import TailWaits
from pgshapes.http_api.reads import DecidedRead, Reads
from pgshapes.http_api.response import Exchange
from pgshapes.http_api.settings import HttpSettings
from pgshapes.model.offset import Offset
from pgshapes.model.tail import Tail

KEEP_ALIVE: Final = b": keep-alive\n\n"


def as_events(body: bytes) -> bytes:
    """The messages of a JSON array as events, one event per message."""
    return b"".join(_events(body))


def _events(body: bytes) -> Iterator[bytes]:
    for message in orjson.loads(body):
        yield b"data: %b\n\n" % orjson.dumps(message)


class _Sent(NamedTuple):
    """How far a stream has come."""

    position: Offset
    is_up_to_date: bool
    """Whether the last message was `up-to-date`; so also for a stream that begins at the end of the log."""


class EventStreams:
    """Sends event streams for the requests of one application."""

    def __init__(
        self, reads: Reads, waits: TailWaits, bodies: BodyCache, answers: Answers, settings: HttpSettings
    ) -> None:
        self._reads = reads
        self._waits = waits
        self._bodies = bodies
        self._answers = answers
        self._settings = settings

    async def serve(self, exchange: Exchange, resolved: ResolvedRequest) -> None:
        """Answer with a stream; with an ordinary response, for example a 409, if there is nothing to send."""
        decided = await self._reads.await_decision(resolved, holds_at_tail=False)
        is_at_end = isinstance(decided.decision, decide.WaitForTail)
        if not is_at_end and not isinstance(decided.decision, decide.Serve):
            await exchange.answer(await self._reads.carry_out(resolved, decided))
            return
        position = resolved.request.offset
        assert isinstance(position, Offset), "a live request has an offset in the log"
        if is_at_end:
            await exchange.begin(200, self._answers.start_of_stream(resolved, position))
        try:
            await self._stream(exchange, resolved, _Sent(position, is_at_end), decided)
        except (OwnerUnavailable, NotReady):
            if not exchange.has_begun:
                raise  # otherwise the client continues with a request
        if exchange.has_begun:
            await exchange.stream(b"", is_last=True)
        else:
            await exchange.answer(await self._reads.refetch_after_removal(resolved))

    async def _stream(
        self, exchange: Exchange, resolved: ResolvedRequest, sent: _Sent, decided: DecidedRead
    ) -> None:
        """Send until the stream ends. Nothing is sent, not even headers, if the first piece is unreadable."""
        ends_s = asyncio.get_running_loop().time() + self._settings.sse_timeout_ms / 1000
        while True:
            decision, tail = decided
            if isinstance(decision, decide.Serve):
                after = await self._send_piece(exchange, resolved, sent.position, decided)
                if after is None:
                    return
                sent = after
                is_done = self._waits.is_stopping or (sent.is_up_to_date and self._is_over(ends_s))
            elif isinstance(decision, decide.WaitForTail) and not sent.is_up_to_date:
                await exchange.stream(as_events(b"[%b]" % up_to_date(decision.latest.tx)))
                sent, is_done = sent._replace(is_up_to_date=True), self._is_over(ends_s)
            else:
                is_wait = isinstance(decision, decide.WaitForTail | decide.WaitForSnapshot)
                is_done = not is_wait or not await self._idle(exchange, resolved.handle, tail, ends_s)
            if is_done:
                return
            decided = await self._next(resolved.handle, sent, decided.tail, ends_s)

    async def _next(self, handle: str, sent: _Sent, tail: Tail | None, ends_s: float) -> DecidedRead:
        """The next decision. When the time is over, it is still about the end of the log at `tail`: a log may
        grow faster than a client reads, and such a stream would never reach the end.
        """
        is_late = not sent.is_up_to_date and self._is_over(ends_s)
        if is_late and tail is not None and sent.position <= tail.latest:
            return DecidedRead(decide.decide_read(sent.position, True, tail), tail)
        return await self._reads.next_decision(handle, sent.position)

    async def _send_piece(
        self, exchange: Exchange, resolved: ResolvedRequest, position: Offset, decided: DecidedRead
    ) -> _Sent | None:
        """Send a piece, which is not kept while the stream is idle. None if the stream ends before it."""
        read = self._reads.piece_of_stream if exchange.has_begun else self._reads.live_piece
        piece = await read(resolved, decided)
        if piece is None:
            return None
        if not exchange.has_begun:
            await exchange.begin(200, self._answers.start_of_stream(resolved, position))
        if piece.large is None:
            await exchange.stream(self._bodies.events(resolved.handle, position, piece, as_events))
        else:
            async for events in events_of(piece.large):
                await exchange.stream(events)
        return _Sent(piece.end, piece.is_up_to_date)

    def _is_over(self, ends_s: float) -> bool:
        """Whether a stream that always has something to send must end."""
        return asyncio.get_running_loop().time() >= ends_s or self._waits.is_stopping

    async def _idle(self, exchange: Exchange, handle: str, seen: Tail | None, ends_s: float) -> bool:
        """Wait for a change, and send a keep-alive comment after a while; return whether to continue."""
        left_s = ends_s - asyncio.get_running_loop().time()
        keepalive_s = self._settings.sse_keepalive_ms / 1000
        try:
            wake = await self._waits.wait(handle, seen, min(left_s, keepalive_s))
        except StaleTables:
            return True  # the next decision waits
        if wake is Wake.TIMED_OUT and left_s > keepalive_s:
            await exchange.stream(KEEP_ALIVE)
            return True
        return wake is Wake.CHANGED
