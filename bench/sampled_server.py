"""The server, whose processes write what they hold when they get SIGUSR2.

Run as `python -m bench.sampled_server`, settings from the environment; with workers the children run this
module, too. Each process writes `<storage_dir>.samples/<pid>.json`. What the operating system shows is not in
it: `soak.py` reads that itself. The supervisor has no event loop of its own kind and writes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from pathlib import Path

from pgshapes.config import Settings
from pgshapes.server.child import ChildTask
from pgshapes.server.environment import configure_logs, hide_secrets, raise_nofile_limit, tune_gc
from pgshapes.server.event_loop import run_in_loop
from pgshapes.server.supervisor import run_with_workers
from pgshapes.wiring import run_child, run_http_process, run_replicator, serve_in_one_loop


def samples_root(storage_dir: Path) -> Path:
    """Where the processes write."""
    return storage_dir.with_name(storage_dir.name + ".samples")


def sample(path: Path, label: str) -> None:
    """Write what this process holds. The file is complete when it is there."""
    gc.collect()
    objects = gc.get_objects()
    found = {
        "label": label,
        "tasks": len(asyncio.all_tasks()),
        # uvloop does not tell its timers.
        "timers": sum(type(one).__name__ == "TimerHandle" and not one.cancelled() for one in objects),
        "threads": threading.active_count(),
        "objects": len(objects),
    }
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(found))
    unfinished.rename(path)


def sample_on_signal(settings: Settings, label: str) -> None:
    """Sample the running loop on SIGUSR2."""
    root = samples_root(settings.storage_dir)
    root.mkdir(exist_ok=True)
    path = root / f"{os.getpid()}.json"
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, sample, path, label)


async def serve(settings: Settings) -> None:
    """Owner and callers in one process."""
    sample_on_signal(settings, "single")
    await serve_in_one_loop(settings)


async def work(task: ChildTask) -> None:
    """Run as a child of the supervisor."""
    sample_on_signal(task.settings, task.label)
    await (run_replicator(task) if task.name == "replicator" else run_http_process(task))


def main() -> int:
    """Serve until stopped, or run as a child."""
    if sys.argv[1:] == ["child"]:
        return run_child(work)
    settings = Settings.load(os.environ)
    if settings.workers:
        return run_with_workers(settings, child_command=(sys.executable, "-m", __spec__.name, "child"))
    hide_secrets(settings)
    configure_logs(settings.log_level)
    raise_nofile_limit()
    tune_gc()
    run_in_loop(serve(settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
