"""The program, which asks for large transactions before their commit and cannot read them.

Run as `python -m tests.support.servers.streaming_server`, settings from the environment; in one process.
"""

from __future__ import annotations

import sys

from pgshapes.cli.entry import main
from pgshapes.postgres import replication

if __name__ == "__main__":
    replication._OPTIONS = "proto_version '2', streaming 'on'"  # type: ignore[misc]  # the test sets it
    sys.argv[1:] = ["serve"]
    main()
