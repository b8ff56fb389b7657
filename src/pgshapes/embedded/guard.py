"""A program that runs one Postgres server and stops it when the process that started the program ends.

It is executed by an isolated interpreter, so it uses only the standard library. Its standard input is a pipe
from its parent that no other program inherits. A byte means "stop and keep the files"; end of file means that
the parent has died, and that the run directory must be removed, too.

Invariant: the server never outlives the guard, and the guard never outlives its parent, however either ends.
The guard is the server's parent process, so the server's process id is not reused before the guard has waited
for it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1

_STEPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, None))
"""Fast shutdown, immediate shutdown, kill (manual: Shutting Down the Server), and the seconds that each may
take. A fast shutdown waits for slow replication clients; an immediate shutdown loses no committed data."""


def _die_with_guard() -> None:
    """Have the kernel stop the server when the guard dies (Linux only). Runs in the child, after setuid."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


class Guard:
    """Owns one server process."""

    def __init__(self, command: list[str], user: int | None, group: int | None) -> None:
        self.is_orphaned = False
        self._server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            preexec_fn=_die_with_guard,  # noqa: PLW1509 - no threads exist yet
        )

    def watch_starter(self) -> None:
        """Wait for a byte from the parent or for its end, then stop the server."""
        self.is_orphaned = os.read(0, 1) == b""
        for number, limit_s in _STEPS:
            self._server.send_signal(number)
            try:
                self._server.wait(limit_s)
                return
            except subprocess.TimeoutExpired:
                continue

    def run(self) -> int:
        """Wait for the server to exit; return its exit status."""
        threading.Thread(target=self.watch_starter, daemon=True).start()
        return self._server.wait()


def main(arguments: list[str]) -> int:
    """`USER GROUP THROWAWAY_DIRECTORY COMMAND …`; an empty user is the current one."""
    user, group, throwaway, *command = arguments
    guard = Guard(command, int(user) if user else None, int(group) if group else None)
    status = guard.run()
    if guard.is_orphaned:
        shutil.rmtree(throwaway, ignore_errors=True)
    return abs(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
