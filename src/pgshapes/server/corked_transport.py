"""One system call for what is written in one turn of the loop.

uvicorn writes head and body apart, and every write to a socket is a system call that costs as much as all of
our own work on a small answer. Bytes wait here until the turn ends; large ones go out at once, behind what
waits.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# From here on the copy into one piece costs more than the call that it saves.
_LARGE_BYTES: Final = 64 * 1024


class CorkedTransport:
    """A transport that gathers small writes; everything else is the transport's own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        """Write at the end of this turn."""
        if len(data) >= _LARGE_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._waiting:
            self._call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Write what waits, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        waiting = self._waiting
        if waiting:
            self._waiting = []
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class CorkedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, on a corked transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection over."""
        super().connection_made(CorkedTransport(transport))  # type: ignore[arg-type]
