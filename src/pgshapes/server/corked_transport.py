"""A transport that joins the small writes of one turn of the event loop.

uvicorn writes head and body separately, and each write is a system call that costs as much as all other work
on a small response. Large writes are passed on immediately, after those that are waiting.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

# From this size on, joining costs more than the system call that it saves.
_LARGE_BYTES: Final = 64 * 1024


class CorkedTransport:
    """A transport that joins small writes; everything else is passed to the wrapped transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self.written = 0
        """Bytes that were written so far, what is waiting excepted."""
        self.is_closing = transport.is_closing
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        """Write at the end of this turn of the event loop; large data immediately."""
        if len(data) >= _LARGE_BYTES:
            self._flush()
            self._write(data)
            return
        if not self._waiting:
            self._call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Write what is waiting, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is waiting is not written."""
        self._waiting = []
        self._transport.abort()

    def _flush(self) -> None:
        waiting = self._waiting
        if waiting:
            self._waiting = []
            self._write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def _write(self, data: bytes) -> None:
        # The connection may have ended in this turn, which the application does not know yet. asyncio drops
        # what is written then, and uvloop raises an error.
        if not self.is_closing():
            self.written += len(data)
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
