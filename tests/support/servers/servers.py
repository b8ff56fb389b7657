"""A complete pgshapes server in its own processes, for tests that need the program as it is run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
from tests.support.servers.ports import free_port

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
_PR_SET_PDEATHSIG = 1


class Server:
    """A server on a database; may be stopped, killed and started again with the same storage."""

    def __init__(
        self, database_url: str, storage_dir: Path, *, module: str = "pgshapes.cli", **settings: Any
    ) -> None:
        self.database_url = database_url
        self.storage_dir = storage_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.stream_id = urlsplit(database_url).path.strip("/")
        self.log_path = storage_dir.with_name(storage_dir.name + ".log")
        self._module = module
        self._settings = settings
        self.arguments: list[str] = []
        """What follows `serve` on the command line."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def publication(self) -> str:
        """Name of the server's publication."""
        return f"electric_publication_{self.stream_id}"

    @property
    def slot(self) -> str:
        """Name of the server's slot."""
        return f"electric_slot_{self.stream_id}"

    @property
    def shape_url(self) -> str:
        """The URL of the shape endpoint."""
        return f"{self.url}/v1/shape"

    def environment(self) -> dict[str, str]:
        """The environment of the server."""
        given = {
            "database_url": self.database_url,
            "host": "127.0.0.1",
            "port": self.port,
            "storage_dir": self.storage_dir,
            "replication_stream_id": self.stream_id,
            "workers": 0,
            "log_level": "info",
        } | self._settings
        if "secret" not in given:
            given["insecure"] = "true"
        outside = {
            k: v for k, v in os.environ.items() if not k.startswith(("PGSHAPES_", "ELECTRIC_", "DATABASE_"))
        }
        return outside | {f"PGSHAPES_{name.upper()}": _text(value) for name, value in given.items()}

    def launch(self) -> None:
        """Start the processes, ready or not."""
        command = ["serve", *self.arguments] if self._module == "pgshapes.cli" else []
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module, *command],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[3],
                start_new_session=True,
                preexec_fn=end_with_tests,  # noqa: PLW1509 - it calls one C function
            )

    def start(self) -> None:
        """Start and wait until it is active."""
        self.launch()
        self.wait_active()

    def wait_active(self) -> None:
        """Wait until `/v1/health` says so. Raises RuntimeError with the log's end when the server exits."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.log_end()}")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/v1/health", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"the server did not become active: {self.log_end()}")

    def stop(self) -> int:
        """Stop with SIGTERM; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_TIMEOUT_S)
        self.process = None
        return status

    def kill(self) -> None:
        """SIGKILL to every process of the server."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)
        self.process = None

    def children(self) -> list[int]:
        """Process ids of the supervisor's children: the replicator first, then the HTTP processes."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the database; its rows, if it has any."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def log_end(self) -> str:
        """The last lines of the server's log."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-20:])


def end_with_tests() -> None:
    """Have the kernel kill the server when the tests are killed; its children end by themselves."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _end(server: Server) -> None:
    """Kill what still runs; under `make coverage` stop it first, as killed processes write no data."""
    if server.process is not None and "COVERAGE_PROCESS_CONFIG" in os.environ:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.stop()
    if server.process is not None:
        server.kill()


@contextlib.contextmanager
def running_server(
    database_url: str, *, storage_dir: Path | None = None, module: str = "pgshapes.cli", **settings: Any
) -> Iterator[Server]:
    """An active server; `settings` are fields of `config.Settings`. It and its storage are gone
    afterwards.
    """
    own = Path(tempfile.mkdtemp(prefix="pgshapes-test-"))
    server = Server(database_url, storage_dir or own / "storage", module=module, **settings)
    try:
        server.start()
        yield server
    except Exception as error:
        error.add_note(f"the server's log ends with:\n{server.log_end()}")
        raise
    finally:
        _end(server)
        shutil.rmtree(own, ignore_errors=True)
