"""`pgshapes serve` with workers: one replicator, N HTTP processes, one listening socket.

It answers no client and holds no state but its children; metrics it asks them for. A child that dies is
started again alone; the others go on. Each child holds the reading end of a pipe from here: when the
supervisor is gone, however it went, the children stop.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

import structlog

from pgshapes.config import Settings
from pgshapes.gates.admission import SharedCounts
from pgshapes.metrics.family import Family
from pgshapes.server.child import PERMITS, ChildTask
from pgshapes.server.environment import configure_logs
from pgshapes.server.http_server import listen
from pgshapes.server.metrics import ask_for_metrics, listen_for_metrics, metrics_listener

_log = structlog.get_logger(__name__)

# Long enough for held polls to be answered and bodies on their way to be sent.
DRAIN_S: Final = 20.0
# A child that dies at once, again and again, must not keep a core busy.
_RESTART_FIRST_S: Final = 0.1
_RESTART_CAP_S: Final = 10.0
_STABLE_S: Final = 10.0

EXIT_CONFIG: Final = 2
CHILD_COMMAND: Final = (sys.executable, "-m", "pgshapes.wiring")


class Child:
    """One child process and its restarts."""

    def __init__(self, task: ChildTask, pass_fds: tuple[int, ...], command: Sequence[str]) -> None:
        self.task = task
        self._command = command
        self._pass_fds = pass_fds
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause_s = _RESTART_FIRST_S

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and hand it its task; the pipe stays open for as long as the supervisor lives."""
        self._started_at = time.monotonic()
        with _no_interrupts():
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, pass_fds=self._pass_fds)
        assert self._process.stdin is not None
        data = pickle.dumps(self.task)
        self._process.stdin.write(len(data).to_bytes(4, "big") + data)
        self._process.stdin.flush()

    async def wait(self) -> int:
        """The exit status."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait)

    async def pause(self) -> None:
        """Before a restart: longer each time, from the start again after a stable run."""
        if time.monotonic() - self._started_at > _STABLE_S:
            self._pause_s = _RESTART_FIRST_S
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _RESTART_CAP_S)

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL if that does not help in time."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.to_thread(process.wait, timeout_s)
        except (TimeoutError, subprocess.TimeoutExpired):
            _log.warning("a process did not stop in time", name=self.task.name, pid=process.pid)
            process.kill()
            await asyncio.to_thread(process.wait)


class Supervisor:
    """Keeps the children alive until it is told to stop."""

    def __init__(self, replicator: Child, workers: list[Child]) -> None:
        self._replicator = replicator
        self._workers = workers
        self._stopping = asyncio.Event()
        self._status = 0

    def stop(self) -> None:
        """End orderly."""
        self._stopping.set()

    async def run(self) -> int:
        """Until stopped; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        keepers = [asyncio.create_task(self._keep(child)) for child in (self._replicator, *self._workers)]
        try:
            await self._stopping.wait()
        finally:
            # Also when cancelled, by a SIGINT that came before its handler was there.
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*(worker.stop(DRAIN_S) for worker in self._workers))
            await self._replicator.stop(DRAIN_S)
        return self._status

    async def _keep(self, child: Child) -> None:
        while True:
            child.start()
            status = await child.wait()
            child.task = child.task._replace(is_restart=True)
            if status == EXIT_CONFIG:
                self._status = EXIT_CONFIG
                self.stop()
                return
            _log.error("a process ended and is started again", name=child.task.name, status=status)
            if child.task.name == "http":
                SharedCounts.reset(child.task.run_dir / PERMITS, child.task.number)
            await child.pause()


def run_with_workers(settings: Settings, *, child_command: Sequence[str] = CHILD_COMMAND) -> int:
    """Serve with one replicator and `settings.workers` HTTP processes; the exit status."""
    configure_logs(settings.log_level)
    socket, metrics = listen(settings.host, settings.port), listen_for_metrics(settings)
    os.set_inheritable(socket.fileno(), True)
    host, port = socket.getsockname()[:2]
    _log.info("listening", url=f"http://{host}:{port}", workers=settings.workers)
    with _run_dir() as run_dir:
        permits = run_dir / PERMITS
        SharedCounts.create(permits, settings.workers)
        replicator = Child(ChildTask("replicator", settings, run_dir), (), child_command)
        fds = (socket.fileno(),)
        workers = [
            Child(ChildTask("http", settings, run_dir, socket.fileno(), number), fds, child_command)
            for number in range(settings.workers)
        ]

        async def gather() -> Mapping[str, Sequence[Family] | None]:
            tasks = [child.task for child in (replicator, *workers)]
            found = await asyncio.gather(*(ask_for_metrics(task.metrics_path) for task in tasks))
            return dict(zip((task.label for task in tasks), found, strict=True))

        async def supervise() -> int:
            async with AsyncExitStack() as stack:
                if metrics is not None:
                    await stack.enter_async_context(metrics_listener(metrics, gather))
                return await Supervisor(replicator, workers).run()

        return asyncio.run(supervise())


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Children inherit that SIGINT is held off: a terminal sends it to all, but they end when told from here,
    and in their first moments it would be a traceback. One that comes meanwhile comes afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _run_dir() -> Iterator[Path]:
    # Not in the storage directory: a unix socket's path may have no more than about 100 characters.
    path = Path(tempfile.mkdtemp(prefix="pgshapes-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
