"""The server in one process, which looks at the system catalogs every 0.2 s, or every WATCH_INTERVAL_S.

Run as `python -m tests.support.servers.frequent_checks_server`, settings from the environment.
"""

from __future__ import annotations

import os

from pgshapes.config import Settings
from pgshapes.owner import catalog_watch
from pgshapes.wiring import serve_in_one_process


def main() -> int:
    """Serve until stopped."""
    interval_s = float(os.environ.get("WATCH_INTERVAL_S", "0.2"))
    catalog_watch.WATCH_INTERVAL_S = interval_s  # type: ignore[misc]  # shorter waits in tests
    return serve_in_one_process(Settings.load(os.environ))


if __name__ == "__main__":
    raise SystemExit(main())
