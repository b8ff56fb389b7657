"""The embedded server's processes: started under a guard, stopped, or killed with all their children.

Not here: the command line, and when the server is ready (`server`). Invariant: after `stop` or `kill`
returns, no process of the server exists.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from pgshapes.embedded import guard as embedded_guard
from pgshapes.embedded.binaries import Account

_POLL_S: Final = 0.005


class ServerProcess:
    """One run of the server. The guard removes the directory `throwaway` if this process dies."""

    def __init__(self, command: list[str], account: Account, log: Path, throwaway: Path) -> None:
        guard = [sys.executable, "-I", "-S", embedded_guard.__file__]
        guard += [str(account.uid or ""), str(account.gid or ""), str(throwaway)]
        with log.open("wb") as output:
            account.chown(log)
            self._guard = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether the server has not exited."""
        return self._guard.poll() is None

    def stop(self) -> None:
        """Shut the server down and wait until it has exited."""
        if self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self._guard.stdin:
                self._guard.stdin.write(b".")
        self._guard.wait()

    def kill(self, pid: int) -> None:
        """Kill the server `pid` and all its children with SIGKILL."""
        victims = [pid, *_children_of(pid)]
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        for victim in victims:
            _wait_gone(victim)
        self.stop()


def _children_of(parent: int) -> list[int]:
    """Process ids of the children, from /proc (Linux); elsewhere none, and they exit by themselves."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, parent_pid = _state_and_parent(path)
            if parent_pid == parent:
                children.append(int(path.parent.name))
    return children


def _wait_gone(pid: int) -> None:
    """Wait until no process has this id, or only a zombie."""
    with contextlib.suppress(OSError):
        while True:
            os.kill(pid, 0)
            if _state_and_parent(Path(f"/proc/{pid}/stat"))[0] == "Z":
                return
            time.sleep(_POLL_S)


def _state_and_parent(stat: Path) -> tuple[str, int]:
    """The fields after the program's name, which may contain any character (proc_pid_stat(5))."""
    state, parent = stat.read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)
