"""The server in one process, which reads the system catalogs all the time.

Run as `python -m tests.support.servers.impatient_server`, settings from the environment.
"""

from __future__ import annotations

import os

from pgshapes.config import Settings
from pgshapes.owner import housekeeping
from pgshapes.wiring import serve_in_one_process


def main() -> int:
    """Serve until told to stop."""
    housekeeping.CHECK_INTERVAL_S = 0.2  # type: ignore[misc]  # a minute is long for a test
    return serve_in_one_process(Settings.load(os.environ))


if __name__ == "__main__":
    raise SystemExit(main())
