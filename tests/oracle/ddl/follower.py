"""A client that follows one shape from a thread of its own, and starts again when it is told to.

It records what an observer needs: its rows whenever it was up to date, refetches, and messages that did not
fit. It judges nothing else. State: the thread writes, `take_record` empties.
"""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass, field
from enum import Enum

from tests.oracle.ddl.shapes import Rows, Shape, frozen
from tests.support.clients.materialised import Materialised, Refetch
from tests.support.clients.plain_client import PlainClient

REFUSED_PAUSE_S = 0.15
UNAVAILABLE_PAUSE_S = 0.05


class Standing(Enum):
    """What the last answer was."""

    STARTING = "no rows yet"
    FOLLOWING = "200"
    UNAVAILABLE = "503, or no connection"
    REFUSED = "400"


@dataclass
class Observed:
    """The rows of a handle when a response was up to date."""

    handle: str
    rows: Rows


@dataclass
class Refetched:
    """A 409; `born` is when the handle was first asked for."""

    handle: str
    born: float


@dataclass
class Record:
    """What happened since the last look."""

    observed: list[Observed] = field(default_factory=list)
    refetched: list[Refetched] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Births:
    """When each handle was first asked for, by any follower."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, handle: str, since: float) -> float:
        """The earliest of the times given for the handle."""
        with self._lock:
            self._since[handle] = min(since, self._since.get(handle, since))
            return self._since[handle]


class Follower:
    """One client; `start` and `stop` its thread."""

    def __init__(self, url: str, shape: Shape, births: Births, number: int) -> None:
        self.shape = shape
        self.number = number
        self.standing = Standing.STARTING
        self.answer = ""
        """The text of the last answer other than 200."""
        self.rows: Rows | None = None
        """The rows if the last answer was up to date; None while others are under way."""
        self.since = time.monotonic()
        """When it began to follow."""
        self._url = url
        self._births = births
        self._record = Record()
        self._lock = threading.Lock()
        self._is_stopped = threading.Event()
        self._must_restart = threading.Event()
        self._copy = self._fresh()
        self._copy_since = self.since
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def handle(self) -> str | None:
        """The handle of the present copy."""
        return self._copy.handle

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread with its next answer."""
        self._is_stopped.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join(30)

    def restart(self) -> None:
        """Begin again with the next answer, as a new client."""
        self.rows = None
        self._must_restart.set()

    def take_record(self) -> Record:
        """What happened since the last call."""
        with self._lock:
            taken, self._record = self._record, Record()
            return taken

    def _fresh(self) -> Materialised:
        self._copy_since = time.monotonic()
        return Materialised(f"{self._url}/v1/shape", self.shape.params)

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                with PlainClient(self._url) as client:
                    while not self._is_stopped.is_set():
                        self._request(client)
            except (OSError, http.client.HTTPException) as error:
                self._stand(Standing.UNAVAILABLE, repr(error))
                time.sleep(UNAVAILABLE_PAUSE_S)

    def _request(self, client: PlainClient) -> None:
        if self._must_restart.is_set():
            self._must_restart.clear()
            self._copy = self._fresh()
        copy = self._copy
        answer = client.get(copy.shape_url, params=self._params(copy), timeout=30)
        try:
            if answer.status_code in (200, 409):
                copy.take(answer)
                self._observe(copy)
            elif answer.status_code == 503:
                self._stand(Standing.UNAVAILABLE, answer.text)
                time.sleep(UNAVAILABLE_PAUSE_S)
            else:
                self._stand(Standing.REFUSED, f"{answer.status_code} {answer.text}")
                self._copy = self._fresh()
                self._is_stopped.wait(REFUSED_PAUSE_S)
        except Refetch:
            self._refetch(copy)
        except AssertionError as error:
            self._fail(str(error))

    def _params(self, copy: Materialised) -> dict[str, str]:
        params = copy.params | {"offset": str(copy.offset)}
        if copy.handle is not None:
            params["handle"] = copy.handle
        if copy.is_up_to_date:
            params["live"] = "true"
        return params

    def _observe(self, copy: Materialised) -> None:
        assert copy.handle is not None
        self._births.note(copy.handle, self._copy_since)
        rows = frozen(copy.rows) if copy.is_up_to_date else None
        is_whole = not copy.log or copy.log[-1]["headers"].get("last")
        with self._lock:
            if rows is not None and rows != self.rows:
                self._record.observed.append(Observed(copy.handle, rows))
            if rows is not None and not is_whole:
                self._record.faults.append(f"up to date within a transaction: {copy.log[-1]}")
        self.rows = rows
        self._stand(Standing.FOLLOWING if rows is not None else self.standing, "")

    def _refetch(self, copy: Materialised) -> None:
        handle = copy.handle or ""
        born = self._births.note(handle, self._copy_since) if handle else self._copy_since
        with self._lock:
            self._record.refetched.append(Refetched(handle, born))
        if not handle:
            self._is_stopped.wait(REFUSED_PAUSE_S)
        self._stand(Standing.STARTING, "")
        self._copy = self._fresh()

    def _fail(self, text: str) -> None:
        with self._lock:
            self._record.faults.append(text)
        self._stand(Standing.STARTING, "")
        self._copy = self._fresh()
        self._is_stopped.wait(REFUSED_PAUSE_S)

    def _stand(self, standing: Standing, text: str) -> None:
        if standing is not Standing.FOLLOWING:
            self.rows = None
        self.standing, self.answer = standing, text
