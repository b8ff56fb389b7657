"""Accepts connections: as many as are waiting, up to a limit, in each turn of the event loop.

uvloop accepts one in each turn. A turn takes long when many connections send much, so a connection would wait
for its own behind all that came before it: up to 40 s with 2,000 silent ones (`bench/hostile.py`).

State: the connections that are being opened; used in one event loop.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from pgshapes.limited_log import LimitedLog
from pgshapes.logs import get_logger
from pgshapes.waiting.background import begin

ACCEPTED_AT_ONCE: Final = 64
"""Opening as many takes 2 to 8 ms."""
_OF_ONE_CONNECTION: Final = frozenset(
    (errno.ENETDOWN, errno.EPROTO, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)
)
_PAUSE_S: Final = 1.0
"""After an error other than that of one connection; descriptors may be free again then."""

_log = get_logger(__name__)


class Acceptor:
    """Accepts the connections of a listening socket, which it does not own."""

    def __init__(self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._failures = LimitedLog(_log)

    def start(self) -> None:
        """Accept from now on."""
        self._pause = None
        self._listener.setblocking(False)  # or the loop would wait for the next connection in `accept`
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Wait until all that were accepted are open."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept(self) -> None:
        try:
            for _ in range(ACCEPTED_AT_ONCE):
                self._open(self._listener.accept()[0])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            # Linux reports here what has happened to one connection while it was waiting: accept(2).
            if not isinstance(error, ConnectionError) and error.errno not in _OF_ONE_CONNECTION:
                self._pause_after(error)

    def _pause_after(self, error: OSError) -> None:
        _log.warning("connections cannot be accepted; retrying", error=str(error), pause_s=_PAUSE_S)
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(_PAUSE_S, self.start)

    def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        opening = self._loop.connect_accepted_socket(self._make_protocol, connection)
        self._opening.add(begin(opening, at_end=partial(self._opened, connection)))

    def _opened(self, connection: socket.socket, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if task.cancelled():
            connection.close()
        elif (error := task.exception()) is not None:
            connection.close()
            self._note(error)

    def _note(self, error: BaseException) -> None:
        """Log why a connection could not be opened; clients decide how many there are."""
        event = "connection cannot be opened; it is closed"
        traceback = None if isinstance(error, OSError) else error
        self._failures.note(event, type(error).__name__, error=repr(error), exc_info=traceback)
