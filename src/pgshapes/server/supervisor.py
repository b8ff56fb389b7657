"""Runs `pgshapes serve` with workers: one replicator, N HTTP processes, one listening socket.

The supervisor answers no shape requests. It starts the children, restarts those that end, and reads their
metrics; its only state is its children. Each child has the read end of a pipe from the supervisor, so the
children stop when the supervisor ends for any reason.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from typing import Final

from pgshapes import config
from pgshapes.config import Settings
from pgshapes.gates.admission import SharedCounts
from pgshapes.logs import get_logger
from pgshapes.metrics.family import Family
from pgshapes.server.child import PERMITS, ChildTask
from pgshapes.server.environment import configure_logs
from pgshapes.server.http_server import listen
from pgshapes.server.metrics import fetch_metrics, listen_for_metrics, metrics_listener
from pgshapes.server.run_dir import run_dir
from pgshapes.tables.required_version import create_required_version
from pgshapes.waiting.background import begin, holds_nothing
from pgshapes.waiting.keep_running import keep_running

_log = get_logger(__name__)

# Long enough to answer held polls and to complete responses in progress.
DRAIN_S: Final = 20.0
# The pause before a restart grows, so that a child that fails at start does not use a whole core.
_RESTART_FIRST_S: Final = 0.1
_RESTART_CAP_S: Final = 10.0
_STABLE_S: Final = 10.0

EXIT_CONFIG: Final = 2
CHILD_COMMAND: Final = (sys.executable, "-m", "pgshapes.wiring")


class Child:
    """A child process, which can be started again."""

    def __init__(self, task: ChildTask, pass_fds: tuple[int, ...], command: Sequence[str]) -> None:
        self.task = task
        self._command = command
        self._pass_fds = pass_fds
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause_s = _RESTART_FIRST_S

    @property
    def pid(self) -> int | None:
        """The process id; None before the first start."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and send it its task; the pipe stays open until the supervisor ends."""
        self._started_at = time.monotonic()
        with _no_interrupts():
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, pass_fds=self._pass_fds, env=_environment_of_children()
            )
        assert self._process.stdin is not None
        data = pickle.dumps(self.task)
        with suppress(BrokenPipeError):  # it has ended; `wait` says so
            self._process.stdin.write(len(data).to_bytes(4, "big") + data)
            self._process.stdin.flush()

    async def wait(self) -> int:
        """Wait until the process ends; return its exit status."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait)

    async def pause(self) -> None:
        """Pause before a restart: longer each time, but short again if the last run was longer than 10 s."""
        if time.monotonic() - self._started_at > _STABLE_S:
            self._pause_s = _RESTART_FIRST_S
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _RESTART_CAP_S)

    async def stop(self, timeout_s: float) -> None:
        """Send SIGTERM, and SIGKILL if the process does not end within `timeout_s`."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.to_thread(process.wait, timeout_s)
        except (TimeoutError, subprocess.TimeoutExpired):
            _log.warning("process killed", process=self.task.label, pid=process.pid, stop_timeout_s=timeout_s)
            process.kill()
            await asyncio.to_thread(process.wait)


class Supervisor:
    """Starts the children and restarts those that end, until it is stopped."""

    def __init__(self, replicator: Child, workers: list[Child]) -> None:
        self._replicator = replicator
        self._workers = workers
        self._stopping = asyncio.Event()
        self._status = 0

    def stop(self) -> None:
        """Stop the children in order, then let `run` return."""
        self._stopping.set()

    async def run(self) -> int:
        """Run until stopped; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        tasks = [
            begin(
                keep_running(f"running {child.task.label}", partial(self._run_child, child)),
                at_end=holds_nothing,
            )
            for child in (self._replicator, *self._workers)
        ]
        try:
            await self._stopping.wait()
        finally:
            # Also when cancelled by a SIGINT that arrived before its handler was installed.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*(worker.stop(DRAIN_S) for worker in self._workers))
            await self._replicator.stop(DRAIN_S)
        return self._status

    async def _run_child(self, child: Child) -> None:
        while True:
            child.start()
            status = await child.wait()
            child.task = child.task._replace(is_restart=True)
            if status == EXIT_CONFIG:
                self._status = EXIT_CONFIG
                self.stop()
                return
            _log.error("process ended; restarting it", process=child.task.label, status=status)
            if child.task.name == "http":
                SharedCounts.reset(child.task.run_dir / PERMITS, child.task.number)
            await child.pause()


def run_with_workers(settings: Settings, *, child_command: Sequence[str] = CHILD_COMMAND) -> int:
    """Serve with one replicator and `settings.workers` HTTP processes; return the exit status."""
    configure_logs(settings.log_level)
    socket, metrics = listen(settings.host, settings.port), listen_for_metrics(settings)
    os.set_inheritable(socket.fileno(), True)
    host, port = socket.getsockname()[:2]
    _log.info("listening", url=f"http://{host}:{port}", workers=settings.workers)
    with run_dir() as path:
        permits = path / PERMITS
        SharedCounts.create(permits, settings.workers)
        replicator = Child(ChildTask("replicator", settings, path), (), child_command)
        create_required_version(replicator.task.required_path)
        fds = (socket.fileno(),)
        workers = [
            Child(ChildTask("http", settings, path, socket.fileno(), number), fds, child_command)
            for number in range(settings.workers)
        ]

        async def collect() -> Mapping[str, Sequence[Family] | None]:
            tasks = [child.task for child in (replicator, *workers)]
            found = await asyncio.gather(*(fetch_metrics(task.metrics_path) for task in tasks))
            return dict(zip((task.label for task in tasks), found, strict=True))

        async def supervise() -> int:
            async with AsyncExitStack() as stack:
                if metrics is not None:
                    await stack.enter_async_context(metrics_listener(metrics, collect))
                return await Supervisor(replicator, workers).run()

        return asyncio.run(supervise())


def _environment_of_children() -> dict[str, str]:
    """Our environment without the secrets: children get their settings through a pipe."""
    hidden = {
        variable for setting in config.settings() if setting.is_secret for variable in setting.variables
    }
    return {name: value for name, value in os.environ.items() if name not in hidden}


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Block SIGINT during the block; children started in it inherit that.

    A terminal sends SIGINT to all processes, but the supervisor stops the children, and during the start of
    Python a SIGINT would print a traceback. A SIGINT that arrives during the block is delivered after it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
