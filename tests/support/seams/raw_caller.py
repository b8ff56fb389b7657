"""A caller of an owner whose frames the test sends and reads one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from pgshapes.tables import frames

F = TypeVar("F", bound=frames.OwnerFrame)


class RawCaller:
    """A caller whose connection the test controls."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._splitter = frames.FrameSplitter()
        self._frames: list[frames.OwnerFrame] = []

    def send(self, frame: frames.CallerFrame) -> None:
        self.writer.write(frames.encode(frame))

    async def read(self) -> frames.OwnerFrame:
        while not self._frames:
            data = await self.reader.read(65536)
            assert data, "the owner closed the connection"
            self._frames += map(frames.decode_owner_frame, self._splitter.feed(data))
        return self._frames.pop(0)

    async def follow(self) -> None:
        """Subscribe, take the whole state, acknowledge it."""
        self.send(frames.Subscribe())
        frame = await self.next_of(frames.StateEnd)
        self.send(frames.Acknowledge(frame.number))

    async def next_of(self, kind: type[F]) -> F:
        """The next frame of this kind."""
        while not isinstance(frame := await self.read(), kind):
            pass
        return frame

    async def is_cut(self) -> bool:
        """Wait until the owner has ended the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True


@asynccontextmanager
async def raw_caller(path: Path) -> AsyncIterator[RawCaller]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1024)
    try:
        yield RawCaller(reader, writer)
    finally:
        writer.close()
