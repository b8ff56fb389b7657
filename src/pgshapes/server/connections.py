"""Limits the connections of a process, and closes those that wait for nothing.

Descriptors are needed for files as well, so their number must not depend on who connects. At the limit a new
connection takes the place of the oldest one whose request head has not arrived, else of one that is idle;
connections that are being answered are kept. One client cannot hold more than its share
(`gates.shares`): past it, a new connection takes the place of another one of the same client.

State: the open connections of one process, used in one event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, Protocol

from pgshapes.gates.shares import may_take

HELD_BYTES_LIMIT: Final = 16 * 2**20
"""Of all connections together: incomplete request heads, and requests that have to wait for their turn."""
_LOOKED_AT: Final = 32
"""How many connections are looked at to find an idle one."""


class Connection(Protocol):
    """A connection, as it is used here."""

    client_key: str | None
    """Who it is from; None if it is not counted for anybody, as those of trusted proxies."""

    @property
    def is_answering(self) -> bool:
        """Whether a request on it is being answered."""

    def evict(self) -> None:
        """Close it at once."""


class Connections:
    """The open connections."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held_bytes = 0
        """Received bytes that are kept until more arrives or an earlier request is answered."""
        self.evicted = 0
        """Connections that had to make room."""
        self.refused = 0
        """Connections for which there was no room."""
        self.is_stopping = False
        """Whether connections are closed as soon as they are open, because the process stops."""
        self._all: dict[Connection, None] = {}
        self._silent: dict[Connection, None] = {}
        """Connections that wait for a request head, the oldest first."""
        self._by_client: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def open(self, connection: Connection) -> bool:
        """Count a new connection; False if there is no room for it."""
        key, taken = connection.client_key, len(self._all)
        own = {} if key is None else self._by_client.get(key, {})
        if own and not may_take(len(own), taken, self.limit):
            has_room = self._evict_one(own)
        else:
            has_room = taken < self.limit or self._evict_one(self._all)
        if not has_room:
            self.refused += 1
            return False
        self._all[connection] = self._silent[connection] = None
        if key is not None:
            self._by_client.setdefault(key, {})[connection] = None
        return True

    def begin_head(self, connection: Connection) -> None:
        """Note that the connection waits for the rest of a request head."""
        if connection in self._all:
            self._silent[connection] = None

    def end_head(self, connection: Connection) -> None:
        """Note that a request head is complete."""
        self._silent.pop(connection, None)

    def close(self, connection: Connection) -> None:
        """Forget a connection; does nothing if it was not counted."""
        self._silent.pop(connection, None)
        if connection not in self._all:
            return
        del self._all[connection]
        key = connection.client_key
        if key is not None:
            own = self._by_client[key]
            del own[connection]
            if not own:
                del self._by_client[key]

    def hold(self, connection: Connection, size: int) -> None:
        """Count bytes that are kept for a connection; evicts others, at last this one, if it is too much."""
        self.held_bytes += size
        while self.held_bytes > HELD_BYTES_LIMIT:
            silent = next(iter(self._silent), connection)
            self._evict(silent)
            if silent is connection:
                return

    def _evict_one(self, candidates: dict[Connection, None]) -> bool:
        found = self._find_silent(candidates) or self._find_idle(candidates)
        if found is not None:
            self._evict(found)
        return found is not None

    def _find_silent(self, candidates: dict[Connection, None]) -> Connection | None:
        if candidates is self._all:
            return next(iter(self._silent), None)
        return _first(each for each in islice(candidates, _LOOKED_AT) if each in self._silent)

    def _find_idle(self, candidates: dict[Connection, None]) -> Connection | None:
        for connection in list(islice(candidates, _LOOKED_AT)):
            if not connection.is_answering:
                return connection
            # The next search begins with others.
            del candidates[connection]
            candidates[connection] = None
        return None

    def _evict(self, connection: Connection) -> None:
        self.evicted += 1
        self.close(connection)
        connection.evict()


def _first(found: Iterable[Connection]) -> Connection | None:
    return next(iter(found), None)
