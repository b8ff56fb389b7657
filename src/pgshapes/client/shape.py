"""The current rows of a shape.

Not here: fetching messages (`shape_stream.py`). Invariant: the visible rows are those of a moment at which
the stream was up to date; an incomplete transaction or refetch is never visible. One task, started by `async
with`, reads the stream and is the only writer of the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Final, Self

import httpx

from pgshapes.client.messages import MUST_REFETCH, ChangeMessage, Message, Value
from pgshapes.client.query import Query
from pgshapes.client.shape_stream import ShapeStream, StreamOptions
from pgshapes.errors import NotNow, WireError
from pgshapes.model.change import Operation

Rows = Mapping[str, Value]
"""Key → row."""

_ONE_SHOT: Final = StreamOptions(is_live=False)


def apply_change(rows: dict[str, Value], change: ChangeMessage, *, is_strict: bool = False) -> None:
    """Apply a change to the rows.

    With `is_strict`, raises WireError for an insert of an existing row and for an update or delete of a
    missing one. In a full log this means that the server sent a message twice or lost one.
    """
    exists = change.key in rows
    if is_strict and exists == (change.operation is Operation.INSERT):
        raise WireError(
            f"{change.operation.value} of {'an existing' if exists else 'a missing'} row: {change.key}"
        )
    if change.operation is Operation.DELETE:
        rows.pop(change.key, None)
    elif change.operation is Operation.UPDATE and exists:
        rows[change.key] = {**rows[change.key], **change.value}
    else:
        rows[change.key] = change.value


class Shape:
    """Follows a stream and keeps its rows, inside `async with Shape(stream) as shape`.

    `len(shape)` is the number of rows, iteration yields their values, `shape.rows` has them by key. If the
    stream fails, every waiting method and the end of the `async with` raise its error.

    `rows` are the rows at the stream's start position; without them the stream must start at the beginning.
    `is_strict` is described at `apply_change`.
    """

    def __init__(self, stream: ShapeStream, *, rows: Rows | None = None, is_strict: bool = False) -> None:
        self._stream = stream
        self._is_strict = is_strict
        self._rows: dict[str, Value] = dict(rows or {})
        self._refetched: dict[str, Value] | None = {} if rows is None else None
        self._pending: list[ChangeMessage] = []
        self._revision = 0
        self._revised = asyncio.Event()
        self._subscribers: dict[object, Callable[[Rows], None]] = {}
        self._follower: asyncio.Task[None] | None = None

    @property
    def stream(self) -> ShapeStream:
        """The stream; `stream.position` is the position of the current rows."""
        return self._stream

    @property
    def rows(self) -> Rows:
        """A read-only view of the rows at the last up-to-date."""
        return MappingProxyType(self._rows)

    @property
    def revision(self) -> int:
        """How many times the stream has been up to date."""
        return self._revision

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Value]:
        return iter(list(self._rows.values()))

    async def up_to_date(self) -> Rows:
        """Wait until the stream has been up to date once; return the rows."""
        return await self.until(lambda rows: True)

    async def until(self, holds: Callable[[Rows], bool]) -> Rows:
        """Wait until `holds(rows)` is true; return the rows. Raises NotNow if the stream ends before."""
        revision = 0
        while (next_revision := await self._next_revision(revision)) is not None:
            revision = next_revision
            if holds(self.rows):
                return self.rows
        raise NotNow("the stream ended before the condition was true")

    async def changes(self) -> AsyncIterator[Rows]:
        """Yield the rows at each up-to-date; a slow reader skips states, but not the last."""
        revision = 0
        while (next_revision := await self._next_revision(revision)) is not None:
            revision = next_revision
            yield self.rows

    def subscribe(self, callback: Callable[[Rows], None]) -> Callable[[], None]:
        """Call `callback` with the rows at each up-to-date; returns a function that unsubscribes."""
        token = object()
        self._subscribers[token] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(token, None)

        return unsubscribe

    async def _next_revision(self, seen: int) -> int | None:
        if self._follower is None:
            raise RuntimeError("a Shape follows its stream only inside `async with`")
        while True:
            has_ended = _has_ended(self._follower)
            if self._revision > seen:
                return self._revision
            if has_ended:
                return None
            await self._revised.wait()

    async def _follow(self) -> None:
        try:
            while True:
                batch = await self._stream.next_batch()
                for message in batch.messages:
                    self._take(message)
                if batch.is_up_to_date:
                    self._show()
        except StopAsyncIteration:
            return

    def _take(self, message: Message) -> None:
        if isinstance(message, ChangeMessage):
            if self._refetched is None:
                self._pending.append(message)
            else:
                apply_change(self._refetched, message, is_strict=self._is_strict)
        elif message.control == MUST_REFETCH:
            self._refetched = {}
            self._pending.clear()

    def _show(self) -> None:
        if self._refetched is not None:
            self._rows.clear()
            self._rows.update(self._refetched)
            self._refetched = None
        for change in self._pending:
            apply_change(self._rows, change, is_strict=self._is_strict)
        self._pending.clear()
        self._revision += 1
        self._wake()
        for callback in list(self._subscribers.values()):
            callback(self.rows)

    def _wake(self) -> None:
        revised, self._revised = self._revised, asyncio.Event()
        revised.set()

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow(), name="pgshapes-shape")
        self._follower.add_done_callback(lambda _: self._wake())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        follower = self._follower
        if follower is None:
            return
        follower.cancel()
        await asyncio.wait([follower])
        await self._stream.aclose()
        if error is None:
            _has_ended(follower)


def _has_ended(follower: asyncio.Task[None]) -> bool:
    """Whether the task is done or cancelled. Raises its exception if it failed."""
    if follower.done() and not follower.cancelled():
        follower.result()
    return follower.done()


async def fetch_rows(
    url: str,
    query: Query | str,
    *,
    options: StreamOptions = _ONE_SHOT,
    http: httpx.AsyncClient | None = None,
) -> list[Value]:
    """Fetch the rows of a shape once. Raises the same errors as `ShapeStream`."""
    options = replace(options, is_live=False)
    async with Shape(ShapeStream(url, query, options=options, http=http)) as shape:
        return list((await shape.up_to_date()).values())
