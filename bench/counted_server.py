"""A server in its own process whose function calls can be counted from outside.

The profiler runs on the thread of the event loop only; a second thread answers the counting process, over a
pipe. Not here: what is counted, and what the counts mean (`calls.py`). The process owns the counts.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

import structlog
import uvloop

import pgshapes
from pgshapes.config import Settings
from pgshapes.wiring import serve_in_one_loop

SOURCE: Final = str(Path(pgshapes.__file__).parent) + "/"
QUIET_S: Final = 0.03
"""An operation is over when no function was entered for so long. A run in which Postgres took longer counts
too little and the next one too much, which the median bears."""
START_S: Final = 30.0
_INLINED: Final = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>"})


class Entry(NamedTuple):
    """A function that was entered, and the outermost function of ours that it was entered under."""

    function: str
    root: str

    @property
    def file(self) -> str:
        """The function's file, below `src/pgshapes`."""
        return self.function.partition(":")[0]


Calls = dict[Entry, int]
"""How often each function was entered."""


class Profiler:
    """Notes each entry into a function of `src/pgshapes` on the thread that starts it."""

    def __init__(self) -> None:
        self._entries: list[tuple[CodeType, CodeType]] = []
        self._is_own: dict[CodeType, bool] = {}
        self._is_entry: dict[tuple[CodeType, int], bool] = {}

    def start(self) -> None:
        """Note the entries on this thread from now on."""
        sys.setprofile(self._profile)

    def take(self) -> Calls:
        """What was entered since the last time, as soon as nothing is entered any more."""
        size = -1
        while size != len(self._entries):
            size = len(self._entries)
            time.sleep(QUIET_S)
        taken, self._entries = self._entries, []
        return dict(Counter(Entry(_name(code), _name(root)) for code, root in taken))

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and self._counts(frame):
            self._entries.append((frame.f_code, self._root(frame)))

    def _counts(self, frame: FrameType) -> bool:
        code = frame.f_code
        return self._owns(code) and code.co_name not in _INLINED and self._is_start(code, frame.f_lasti)

    def _owns(self, code: CodeType) -> bool:
        owns = self._is_own.get(code)
        if owns is None:
            owns = self._is_own[code] = code.co_filename.startswith(SOURCE)
        return owns

    def _is_start(self, code: CodeType, position: int) -> bool:
        """Whether a "call" at this position is the function's start; else a coroutine or a generator is
        resumed.

        The interpreter reports both at RESUME, whose operand's last bits are 0 at the start (module `dis`).
        """
        is_start = self._is_entry.get((code, position))
        if is_start is None:
            is_start = self._is_entry[code, position] = code.co_code[position + 1] & 3 == 0
        return is_start

    def _root(self, frame: FrameType) -> CodeType:
        root, caller = frame.f_code, frame.f_back
        while caller is not None:
            if self._owns(caller.f_code):
                root = caller.f_code
            caller = caller.f_back
        return root


def _name(code: CodeType) -> str:
    return f"{code.co_filename.removeprefix(SOURCE)}:{code.co_qualname}"


class CountedServer:
    """The server, as the counting process sees it."""

    def __init__(self, port: int, pid: int, pipe: Connection) -> None:
        self.port = port
        self.pid = pid
        self._pipe = pipe

    def take(self) -> Calls:
        """What was entered since the last time, once the server is quiet."""
        self._pipe.send("take")
        calls: Calls = self._pipe.recv()
        return calls


@contextmanager
def counted_server(database_url: str, storage_dir: Path, *, profiles: bool) -> Iterator[CountedServer]:
    """A server on a database, in one process and one event loop; profiled or as it is run."""
    port = _free_port()
    settings = Settings(
        database_url=database_url,
        insecure=True,
        host="127.0.0.1",
        port=port,
        workers=0,
        storage_dir=storage_dir,
        long_poll_timeout_ms=1_000,
        log_level="warning",
    )
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(settings, its, profiles), daemon=True)
    process.start()
    try:
        assert process.pid is not None
        _await_listening(port)
        yield CountedServer(port, process.pid, ours)
    finally:
        process.terminate()
        process.join()


def _serve(settings: Settings, pipe: Connection, profiles: bool) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    profiler = Profiler()
    threading.Thread(target=_answer, args=(profiler, pipe), daemon=True).start()
    uvloop.run(_run(settings, profiler if profiles else None))


async def _run(settings: Settings, profiler: Profiler | None) -> None:
    if profiler is not None:
        profiler.start()
    await serve_in_one_loop(settings)


def _answer(profiler: Profiler, pipe: Connection) -> None:
    """Answer until the other end is closed; then the server must end."""
    try:
        while pipe.recv() == "take":
            pipe.send(profiler.take())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_listening(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
