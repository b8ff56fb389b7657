"""The server on a disk that loses what was not synced, and that fails while a test says so.

Run as `python -m tests.support.servers.faulty_server`, settings from the environment; with workers the
children run this module, too. The durable image is `<storage_dir>.durable`, the failures that a test wants
are in `<storage_dir>.faults`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.support.servers.forgetful_server import durable_root
from tests.support.storage.faulty_files import FaultyFiles, FaultyText
from tests.support.storage.forgetful_files import ForgetfulFiles

from pgshapes.config import Settings
from pgshapes.errors import ConfigError, PgShapesError
from pgshapes.server.child import ChildTask
from pgshapes.server.supervisor import run_with_workers
from pgshapes.shape_log.file_store.files import Files
from pgshapes.wiring import Seams, run_child, run_http_process, run_replicator, serve_in_one_process


def faults_root(storage_dir: Path) -> Path:
    """The directory that says what fails now."""
    return storage_dir.with_name(storage_dir.name + ".faults")


LOG: Any = FaultyText(sys.stderr)
"""In place of standard error, where the server logs."""


def seams_for(settings: Settings) -> Seams:
    """Files that lose and fail. From here on the log may fail, too."""
    LOG.directory = faults_root(settings.storage_dir)

    def make_files(root: Path) -> Files:
        root.mkdir(exist_ok=True)
        files = ForgetfulFiles(root, durable_root(settings.storage_dir))
        return FaultyFiles(files, faults_root(settings.storage_dir))

    return Seams(make_files=make_files)


async def work(task: ChildTask) -> None:
    """Run as a child of the supervisor."""
    if task.name == "replicator":
        await run_replicator(task, seams_for(task.settings))
    else:
        await run_http_process(task, seams_for(task.settings))


def main() -> int:
    """Serve until stopped, or run as a child; return the exit status of the program."""
    sys.stderr = LOG
    if sys.argv[1:] == ["child"]:
        return run_child(work)
    settings = Settings.load(os.environ)
    try:
        if settings.workers:
            LOG.directory = faults_root(settings.storage_dir)
            return run_with_workers(settings, child_command=(sys.executable, "-m", __spec__.name, "child"))
        return serve_in_one_process(settings, seams_for(settings))
    except PgShapesError as error:
        print(f"pgshapes: {error.message}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    raise SystemExit(main())
