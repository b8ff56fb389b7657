"""The server in one process, which asks for large transactions before their commit and cannot read them.

Run as `python -m tests.support.servers.streaming_server`, settings from the environment.
"""

from __future__ import annotations

import os

from pgshapes.config import Settings
from pgshapes.postgres import replication
from pgshapes.wiring import serve_in_one_process


def main() -> int:
    """Serve until a message cannot be read."""
    replication._OPTIONS = "proto_version '2', streaming 'on'"  # type: ignore[misc]  # the test sets it
    return serve_in_one_process(Settings.load(os.environ))


if __name__ == "__main__":
    raise SystemExit(main())
