"""Carries out read decisions: reads the tail, waits if needed, reads the log, builds the response.

The rules are in `decide`, the responses in `answers`. Invariants: a decision is carried out with the tail
that it is based on; a shape that was retired while its log was read is not served, so that no client gets
rows of a handle after another client got the 409 for it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NamedTuple

from pgshapes.errors import NotNow, SchemaChanged, StaleTables, StorageError
from pgshapes.http_api import decide
from pgshapes.http_api.answers import Answers, ResolvedRequest
from pgshapes.http_api.body_cache import BodyCache, Piece, up_to_date
from pgshapes.http_api.decide import Decision
from pgshapes.http_api.error_responses import refetch_response
from pgshapes.http_api.live import HeldRequests
from pgshapes.http_api.params import Now
from pgshapes.http_api.ports import Shapes
from pgshapes.http_api.response import Response
from pgshapes.http_api.shortages import outlast
from pgshapes.model.offset import BEFORE_ALL, FIRST_SNAPSHOT_CHUNK, Offset
from pgshapes.model.tail import Tail
from pgshapes.shape_log.disk_errors import DiskErrors


class DecidedRead(NamedTuple):
    """A decision, and the tail that it is based on."""

    decision: Decision
    tail: Tail | None


class Reads:
    """Reads snapshots and logs for the requests of one application."""

    def __init__(
        self, shapes: Shapes, bodies: BodyCache, held_requests: HeldRequests, answers: Answers
    ) -> None:
        self._shapes = shapes
        self._bodies = bodies
        self._held_requests = held_requests
        self._answers = answers
        self._disk_errors = DiskErrors()

    async def respond(self, resolved: ResolvedRequest) -> Response:
        """The response, after waiting if the rules say so. Raises NotNow, SchemaChanged, StorageError."""
        known = self._known_end(resolved) if resolved.if_none_match else None
        return known or await self.carry_out(resolved, await self.await_decision(resolved))

    async def await_decision(self, resolved: ResolvedRequest, *, holds_at_tail: bool = True) -> DecidedRead:
        """The decision after all waits. Without `holds_at_tail` it may be to wait at the end of the log."""
        began_s = asyncio.get_running_loop().time()
        while True:
            try:
                decided = self.current_decision(
                    resolved.handle, resolved.request.offset, resolved.request.is_live
                )
                decision = decided.decision
                if not isinstance(decision, decide.Wait):
                    return decided
                if isinstance(decision, decide.WaitForTail) and not holds_at_tail:
                    return decided
                ended = await self._held_requests.hold(resolved.handle, decision, decided.tail, began_s)
            except StaleTables:
                await self._held_requests.until_served()
            else:
                if ended is not None:
                    return DecidedRead(ended, decided.tail)

    async def next_decision(self, handle: str, offset: Offset) -> DecidedRead:
        """The decision for a stream that has begun, once its shape may be served. Raises NotReady."""
        while True:
            try:
                return self.current_decision(handle, offset, True)
            except StaleTables:
                await self._held_requests.until_served()

    def current_decision(self, handle: str, offset: Offset | Now, is_live: bool) -> DecidedRead:
        """The decision for the current tail. Raises StaleTables."""
        tail = self._shapes.tail(handle)
        return DecidedRead(decide.decide_read(offset, is_live, tail), tail)

    async def carry_out(self, resolved: ResolvedRequest, decided: DecidedRead) -> Response:
        """The response for a decision. Raises NotNow, SchemaChanged, StorageError."""
        decision = decided.decision
        if isinstance(decision, decide.Serve):
            return await self._serve_piece(resolved, decided)
        if isinstance(decision, decide.SayUpToDate):
            body = b"[%b]" % up_to_date(self._seen_lsn(decision.latest))
            return self._answers.of_piece(resolved, Piece(body, decision.latest, True))
        if isinstance(decision, decide.SayNoChange):
            return self._answers.of_no_change(resolved, decision.latest, self._seen_lsn(decision.latest))
        if isinstance(decision, decide.AwaitRemoval):
            return await self.refetch_after_removal(resolved)
        if isinstance(decision, decide.MustRefetch):
            return refetch_response(decision.handle, is_cacheable=resolved.is_cacheable)
        if isinstance(decision, decide.RefuseForNow):
            raise NotNow(decision.message, retry_after_s=decision.retry_after_s)
        raise AssertionError(f"{decision} is a wait, not a response")

    def resume_offset(self, resolved: ResolvedRequest) -> Offset | None:
        """The offset at which a client continues after a subset snapshot; None if the shape is removed.

        Clients move their stream to it. The log after it must contain every change that the snapshot does
        not, so it is read before the snapshot is taken; and it must not skip anything that the stream has
        not been sent yet.
        """
        tail = self._shapes.tail(resolved.handle)
        if tail is None:
            return None
        offset = resolved.request.offset
        if isinstance(offset, Now):
            return tail.latest
        return FIRST_SNAPSHOT_CHUNK if offset == BEFORE_ALL else offset

    async def refetch_after_removal(self, resolved: ResolvedRequest) -> Response:
        """409 for a removed shape, once no process serves it; with the handle of its successor, if any.

        Raises SchemaChanged if the client has not presented a handle: it has nothing to refetch, and its
        request is begun again.
        """
        await self._shapes.removed(resolved.handle)
        if resolved.request.handle is None:
            raise SchemaChanged("the shape was removed before it was read")
        right = self._shapes.find_handle(resolved.shape)
        return refetch_response(
            right if right != resolved.handle else None, is_cacheable=resolved.is_cacheable
        )

    async def live_piece(self, resolved: ResolvedRequest, decided: DecidedRead) -> Piece | None:
        """The first piece of a stream, as `readable_piece`."""
        return await self.readable_piece(resolved, decided, True)

    async def piece_of_stream(self, resolved: ResolvedRequest, decided: DecidedRead) -> Piece | None:
        """The piece that a stream sends next, as `readable_piece`; what waiting cures is waited for. Raises
        StorageShortage, NotReady.
        """
        while True:
            try:
                return await outlast(partial(self.live_piece, resolved, decided))
            except StaleTables:
                await self._held_requests.until_served()

    async def _serve_piece(self, resolved: ResolvedRequest, decided: DecidedRead) -> Response:
        piece = await self.readable_piece(resolved, decided, resolved.request.is_live)
        if piece is None:
            return await self.refetch_after_removal(resolved)
        return self._answers.of_piece(resolved, piece)

    async def readable_piece(
        self, resolved: ResolvedRequest, decided: DecidedRead, is_live: bool
    ) -> Piece | None:
        """The piece to serve; None if the shape was retired while it was read, or its log is damaged, after
        which the shape is deleted. Raises StorageShortage, StaleTables.

        For a live request, `up-to-date` has the LSN of the last message in the piece, not a later one.
        """
        (decision, tail), bodies, handle = decided, self._bodies, resolved.handle
        try:
            if isinstance(decision, decide.ServeSnapshotChunk):
                cached = bodies.cached_snapshot_chunk(handle, decision.number)
                piece = cached or await bodies.snapshot_chunk(handle, decision.number)
            else:
                assert isinstance(decision, decide.ServeLog)
                assert tail is not None
                seen_lsn = 0 if is_live else self._shapes.last_seen_lsn()
                cached = bodies.cached_log(handle, decision.after, tail, seen_lsn)
                piece = cached or await bodies.log(handle, decision.after, tail, seen_lsn)
        except StorageError as error:
            if not self._disk_errors.is_damage(handle, error):
                raise
            await self._delete_unreadable(resolved)
            return None
        if self._disk_errors.failing:
            self._disk_errors.succeeded(handle)
        return piece if cached is not None or self._shapes.tail(handle) is not None else None

    async def _delete_unreadable(self, resolved: ResolvedRequest) -> None:
        """Delete a shape whose files cannot be read, unless it has been removed already."""
        if await self._shapes.is_current(resolved.handle, resolved.shape):
            await self._shapes.delete(resolved.handle)

    def _known_end(self, resolved: ResolvedRequest) -> Response | None:
        decision = self.current_decision(
            resolved.handle, resolved.request.offset, resolved.request.is_live
        ).decision
        if not isinstance(decision, decide.WaitForTail):
            return None
        return self._answers.of_matched_end(resolved, decision.latest)

    def _seen_lsn(self, latest: Offset) -> int:
        return max(self._shapes.last_seen_lsn(), latest.tx)
