"""The server in one process on a disk that forgets: `python -m tests.forgetful_server`, settings from the
environment.

The durable image is kept beside the storage directory, in `<storage_dir>.durable`.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.forgetful_files import ForgetfulFiles

from pgshapes.config import Settings
from pgshapes.shape_log.files import Files
from pgshapes.wiring import Seams, serve_in_one_process


def main() -> int:
    """Serve until killed."""
    settings = Settings.load(os.environ)

    def make_files(root: Path) -> Files:
        root.mkdir(exist_ok=True)
        return ForgetfulFiles(root, durable_root(settings.storage_dir))

    return serve_in_one_process(settings, Seams(make_files=make_files))


def durable_root(storage_dir: Path) -> Path:
    """Where the durable image of a storage directory is."""
    return storage_dir.with_name(storage_dir.name + ".durable")


if __name__ == "__main__":
    raise SystemExit(main())
