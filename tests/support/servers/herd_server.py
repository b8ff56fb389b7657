"""The server with taps, and options to disable what a herd must not depend on.

Run as `python -m tests.support.servers.herd_server`. Settings come from the environment, options
from the file next to the storage directory that `tests.support.clients.herd` writes. SIGUSR1 keeps the
owner's loop busy for a second. With workers the children run this module, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from pgshapes.config import Settings
from pgshapes.gates.time_limits import READY_TIMEOUT_S
from pgshapes.postgres.snapshot import SnapshotSource
from pgshapes.server.child import ChildTask
from pgshapes.server.environment import configure_logs, tune_gc
from pgshapes.server.supervisor import run_with_workers
from pgshapes.shape_log.file_store.files import RealFiles
from pgshapes.tables.calls import Call, CreateOrWaitShapeHandle, ResolveShape
from pgshapes.wiring import Seams, run_child, run_http_process, run_replicator, serve_in_one_loop

BLOCKED_S = 1.0
SLOW_S = 0.2


class SlowFiles(RealFiles):
    """A disk on which every operation on names takes 200 ms."""

    def make_directory(self, path: str) -> bool:
        time.sleep(SLOW_S)
        return super().make_directory(path)

    def open(self, path: str) -> int:
        time.sleep(SLOW_S)
        return super().open(path)

    def truncate(self, path: str, size: int) -> None:
        time.sleep(SLOW_S)
        super().truncate(path, size)

    def rename(self, old: str, new: str) -> None:
        time.sleep(SLOW_S)
        super().rename(old, new)

    def remove_tree(self, path: str) -> None:
        time.sleep(SLOW_S)
        super().remove_tree(path)

    def sync_directories(self, paths: Sequence[str]) -> dict[str, OSError]:
        time.sleep(SLOW_S)
        return super().sync_directories(paths)


def options_path(storage_dir: Path) -> Path:
    """The file of the test's options."""
    return storage_dir.with_name(storage_dir.name + ".options")


def calls_path(storage_dir: Path) -> Path:
    """The file in which the tap writes the calls that the owner received, one per line."""
    return storage_dir.with_name(storage_dir.name + ".calls")


def owner_path(storage_dir: Path) -> Path:
    """The file in which the owner writes its process id."""
    return storage_dir.with_name(storage_dir.name + ".owner")


def seams_for(settings: Settings) -> Seams:
    """What the test options; also sets what is a constant otherwise."""
    options: dict[str, Any] = json.loads(options_path(settings.storage_dir).read_text())
    if (limit_s := options.get("first_row_timeout_s")) is not None:
        defaults = SnapshotSource.__init__.__kwdefaults__
        assert defaults is not None
        defaults["first_row_timeout_s"] = limit_s
    return Seams(
        make_files=(lambda root: SlowFiles(str(root))) if options.get("slow_files") else None,
        has_notices=options.get("has_notices", True),
        tap=tap_into(calls_path(settings.storage_dir)),
        ready_timeout_s=options.get("ready_timeout_s", READY_TIMEOUT_S),
    )


def tap_into(path: Path) -> Any:
    """A tap that records each call and its table."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tap(call: Call) -> None:
        table = None
        if isinstance(call, CreateOrWaitShapeHandle):
            table = call.shape.definition.table
        elif isinstance(call, ResolveShape):
            table = call.raw.table
        line = {"call": call.__struct_config__.tag, "table": table}
        os.write(descriptor, json.dumps(line).encode() + b"\n")

    return tap


def be_the_owner(settings: Settings) -> None:
    """Write the process id, and keep the running loop busy on SIGUSR1."""
    owner_path(settings.storage_dir).write_text(str(os.getpid()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, BLOCKED_S)


async def serve(settings: Settings) -> None:
    """Owner and callers in one process."""
    be_the_owner(settings)
    await serve_in_one_loop(settings, seams_for(settings))


async def work(task: ChildTask) -> None:
    """Run as a child of the supervisor."""
    seams = seams_for(task.settings)
    if task.name != "replicator":
        await run_http_process(task, seams)
        return
    be_the_owner(task.settings)
    await run_replicator(task, seams)


def main() -> int:
    """Serve until stopped, or run as a child."""
    if sys.argv[1:] == ["child"]:
        return run_child(work)
    settings = Settings.load(os.environ)
    if settings.workers:
        return run_with_workers(settings, child_command=(sys.executable, "-m", __spec__.name, "child"))
    configure_logs(settings.log_level)
    tune_gc()
    uvloop.run(serve(settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
