"""Where a child process tells its metrics to the supervisor: a unix socket, one answer per connection.

Not a protocol: whoever connects gets the families of that moment, and the end. Both ends are one release.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from pgshapes.metrics.family import Family

ANSWER_TIMEOUT_S: Final = 2.0
"""A process that is too busy to answer is told from one that is not there by nobody: it is not up."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Family]).decode


@asynccontextmanager
async def metrics_socket(path: Path, families: Callable[[], list[Family]]) -> AsyncIterator[None]:
    """Answer at `path` for as long as the block lasts."""

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_encode(families()))
        writer.close()

    _take_away(path)
    server = await asyncio.start_unix_server(tell, path)
    try:
        yield
    finally:
        server.close()


def _take_away(path: Path) -> None:
    """What a process before us has left."""
    path.unlink(missing_ok=True)


async def ask_for_metrics(path: Path) -> Sequence[Family] | None:
    """The families of the process that answers at `path`, None when none does."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return _decode(await reader.read(-1))
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None
