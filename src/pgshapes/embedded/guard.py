"""A program of its own that runs one Postgres server and ends it when whoever started it is gone.

No one calls it: `embedded` starts it with an isolated interpreter, so it uses the standard library alone. Its
standard input is a pipe that its starter holds and no other program inherits: a byte means "stop and keep the
files"; the end of the pipe means that the starter died, and then its run directory goes, too.

Invariant: the server never outlives the guard, nor the guard its starter, however either of them ends. The
guard is the server's parent, so that the server's process id stays taken until the guard knows that it has
ended.
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
take. A fast shutdown waits for replication clients that read slowly; an immediate one loses nothing
committed."""


def _die_with_guard() -> None:
    """In the new process, after it has changed its user: end it when the guard is killed (Linux only)."""
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
            preexec_fn=_die_with_guard,  # noqa: PLW1509 - there are no threads yet
        )

    def watch_starter(self) -> None:
        """Wait for the starter's word or its end, then end the server."""
        self.is_orphaned = os.read(0, 1) == b""
        for number, patience_s in _STEPS:
            self._server.send_signal(number)
            try:
                self._server.wait(patience_s)
                return
            except subprocess.TimeoutExpired:
                continue

    def run(self) -> int:
        """The server's exit status, once it has ended."""
        threading.Thread(target=self.watch_starter, daemon=True).start()
        return self._server.wait()


def main(arguments: list[str]) -> int:
    """`USER GROUP THROWAWAY_DIRECTORY COMMAND …`; an empty user means our own."""
    user, group, throwaway, *command = arguments
    guard = Guard(command, int(user) if user else None, int(group) if group else None)
    status = guard.run()
    if guard.is_orphaned:
        shutil.rmtree(throwaway, ignore_errors=True)
    return abs(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
