"""The server in one process, on a disk that loses what was not synced.

Run as `python -m tests.support.servers.forgetful_server`, settings from the environment.

The durable image is kept beside the storage directory, in `<storage_dir>.durable`; the disk operations that a
test blocks (`tests.support.storage.held_files`) are listed in `<storage_dir>.held`. With
FORGETFUL_SYNC_INTERVAL_S in the environment the logs are synced at that interval only.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.storage.forgetful_files import ForgetfulFiles
from tests.support.storage.held_files import HeldFiles

from pgshapes.config import Settings
from pgshapes.owner import durability
from pgshapes.shape_log.file_store.files import Files
from pgshapes.wiring import Seams, serve_in_one_process

SYNC_INTERVAL = "FORGETFUL_SYNC_INTERVAL_S"


def main() -> int:
    """Serve until killed."""
    settings = Settings.load(os.environ)
    if SYNC_INTERVAL in os.environ:
        durability.SYNC_INTERVAL_S = float(os.environ[SYNC_INTERVAL])  # type: ignore[misc]  # the test sets it

    def make_files(root: Path) -> Files:
        root.mkdir(exist_ok=True)
        files = ForgetfulFiles(root, durable_root(settings.storage_dir))
        return HeldFiles(files, held_root(settings.storage_dir))

    return serve_in_one_process(settings, Seams(make_files=make_files))


def durable_root(storage_dir: Path) -> Path:
    """The directory of the durable image of a storage directory."""
    return storage_dir.with_name(storage_dir.name + ".durable")


def held_root(storage_dir: Path) -> Path:
    """The directory that says which operations are blocked."""
    return storage_dir.with_name(storage_dir.name + ".held")


if __name__ == "__main__":
    raise SystemExit(main())
