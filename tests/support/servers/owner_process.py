"""An owner in its own process, for tests that stop and kill it.

Run as `python -m tests.support.servers.owner_process PATH`. Its table `progress` holds its `pid` and the
number of calls `begun`. A call's handle says what it does: `hang` is never answered, `block N` keeps the
whole loop busy for N seconds, anything else is answered with the handle.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgshapes.tables.calls import Call, DeleteShape, Reply
from pgshapes.tables.mailbox import CallContext
from pgshapes.tables.tables import Tables
from pgshapes.tables.unix_link import UnixSocketOwner


async def serve(path: str) -> None:
    """Own tables at `path` until killed."""
    tables = Tables()
    tables.progress.put("pid", os.getpid())

    async def handle(call: Call, context: CallContext) -> Reply:
        assert isinstance(call, DeleteShape)
        tables.progress.put("begun", (tables.progress.get("begun") or 0) + 1)
        word, _, seconds = call.handle.partition(" ")
        if word == "hang":
            await context.cancelled.wait()
        elif word == "block":
            time.sleep(float(seconds))  # noqa: ASYNC251 - the loop must not turn
        return call.handle

    owner = UnixSocketOwner(path, tables, handle)
    await owner.start()
    await asyncio.Event().wait()


@contextmanager
def owner_process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An owner process; killed at the end, also when it is stopped."""
    process = subprocess.Popen([sys.executable, "-m", "tests.support.servers.owner_process", str(path)])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
