"""Clients that follow shapes from threads, each on its own connection, and record what they receive."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
from tests.support.clients.materialised import Materialised, Row
from tests.support.clients.plain_client import Client

from pgshapes.model.offset import Offset


class RecordedResponse(NamedTuple):
    """A response that a client has applied."""

    requested: Offset
    end: Offset
    messages: list[dict[str, Any]]


class State(NamedTuple):
    """The rows when a response was up to date at an LSN."""

    lsn: int
    rows: dict[str, Row]


@dataclass
class Recorded(Materialised):
    """A strict client that records every response, and the rows at each moment it was up to date."""

    records: list[RecordedResponse] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def take(self, response: httpx.Response) -> httpx.Response:
        """Apply a response, and record it."""
        requested = self.offset
        super().take(response)
        messages = response.json()
        self.records.append(RecordedResponse(requested, self.offset, messages))
        if self.is_up_to_date:
            claim = int(messages[-1]["headers"]["global_last_seen_lsn"])
            self.states.append(State(claim, {key: dict(row) for key, row in self.rows.items()}))
        return response

    def changes_after(self, offset: Offset) -> list[dict[str, Any]]:
        """All changes that were received at or after a request with this offset."""
        return [
            message
            for response in self.records
            if response.requested >= offset
            for message in response.messages
            if "key" in message
        ]


@dataclass
class RetryingClient(Materialised):
    """A strict client that retries when the server is unavailable or answers with 503."""

    reconnects: int = 0
    refusals: int = 0
    broken: list[str] = field(default_factory=list)
    """Errors after the headers of a response had arrived."""
    has_begun: bool = False

    def request(self, client: Client, *, live: bool = False) -> httpx.Response:
        """One answered request; the client is one of httpx, which tells when headers have come."""
        assert isinstance(client, httpx.Client)
        client.event_hooks = {"response": [self._begin]}
        while True:
            self.has_begun = False
            try:
                return super().request(client, live=live)
            except httpx.TransportError as error:
                self.reconnects += 1
                if self.has_begun:
                    self.broken.append(repr(error))
            time.sleep(0.05)

    def _begin(self, _: httpx.Response) -> None:
        self.has_begun = True

    def take(self, response: httpx.Response) -> httpx.Response:
        """Apply a response unless it is a 503."""
        if response.status_code == 503:
            self.refusals += 1
            time.sleep(0.05)
            return response
        return super().take(response)


class Followers:
    """The threads of some clients."""

    def __init__(self, shapes: Sequence[Materialised]) -> None:
        self._errors: list[BaseException] = []
        self._stop = threading.Event()
        self._end_lsn: int | None = None
        self._threads = [threading.Thread(target=self._follow, args=(shape,)) for shape in shapes]

    def start(self) -> None:
        """Begin to follow."""
        for thread in self._threads:
            thread.start()

    def finish(self, lsn: int) -> None:
        """Wait until all have received everything before `lsn`. Raises the error of a client."""
        self._end_lsn = lsn
        self._join()

    def stop(self) -> None:
        """Stop all threads."""
        self._stop.set()
        self._join()

    def check(self) -> None:
        """Raise the first error of a client so far."""
        if self._errors:
            raise self._errors[0]

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()
        self.check()

    def _follow(self, shape: Materialised) -> None:
        # Nothing is encrypted; loading the CA certificates would take longer than the test.
        with httpx.Client(verify=False) as client:
            try:
                while not self._stop.is_set() and not self._has_ended(shape):
                    shape.request(client, live=shape.is_up_to_date)
            except BaseException as error:
                self._errors.append(error)

    def _has_ended(self, shape: Materialised) -> bool:
        lsn = self._end_lsn
        return lsn is not None and shape.is_up_to_date and shape.seen_lsn >= lsn


@contextmanager
def following(shapes: Sequence[Materialised]) -> Iterator[Followers]:
    """The clients follow while the block runs; `finish` waits until they have everything."""
    followers = Followers(shapes)
    followers.start()
    try:
        yield followers
    finally:
        followers.stop()
