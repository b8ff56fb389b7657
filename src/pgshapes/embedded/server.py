"""An embedded Postgres server for development and tests.

Not for production: it listens only on 127.0.0.1 and on a socket in a private directory. Clients over TCP need
the superuser's password, which is part of `url`.

Invariant: the server stops when this object is closed, or when its process or its guard ends; a temporary
data directory is then removed. State: this object owns the run directory (socket, copied programs, temporary
data).
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg

from pgshapes.embedded.binaries import Account, find_programs, programs_for, server_account
from pgshapes.embedded.data_dir import SUPERUSER, DataDirectory, error_line
from pgshapes.embedded.process import ServerProcess
from pgshapes.errors import ConfigError

_START_DEADLINE_S: Final = 60.0
"""After a crash the server replays WAL before it is ready."""
_READINESS_POLL_S: Final = 0.02
_PORT_ATTEMPTS: Final = 5
_SOCKET_PATH_BYTES: Final = 80
"""The path of a unix socket has at most 107 bytes, including the file name."""

_SETTINGS: Final = {
    "wal_level": "logical",
    "max_wal_senders": "50",
    "max_replication_slots": "50",
    "max_connections": "100",
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_THROWAWAY_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off"}
"""Commits survive `kill`, because the page cache does; they do not survive a power cut."""


class EmbeddedPostgres:
    """One server. Without a data directory its data is removed when it is closed.

    `installed` is the `bin` directory of an installation of that version, by default the optional package's.
    Raises ConfigError, also from `start`, with one line that says what to do.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        version: int = 16,
        settings: Mapping[str, str] = MappingProxyType({}),
        port: int | None = None,
        installed: Path | None = None,
    ) -> None:
        self.version = version
        self.port = port or 0
        self._wants_port = port
        self._account = server_account()
        self._run_dir = _make_run_dir(self._account)
        self._is_throwaway = data_dir is None
        self.data_dir = self._run_dir / "data" if data_dir is None else data_dir.absolute()
        self._data = DataDirectory(self.data_dir, version, self._account)
        self._settings = {**_SETTINGS, **(_THROWAWAY_SETTINGS if data_dir is None else {}), **settings}
        self._installed = installed
        self._programs: Path | None = None
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_running(self) -> bool:
        """Whether the server has been started and has not exited."""
        return self._process is not None and self._process.is_running

    @property
    def socket_dir(self) -> str:
        """The directory of the unix socket; only the server's user can connect there, without a password."""
        return str(self._run_dir)

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._data.server_pid

    def url(self, database: str = "postgres") -> str:
        """A connection URL over TCP for the superuser."""
        return f"postgresql://{SUPERUSER}:{self._data.password}@127.0.0.1:{self.port}/{quote(database, '')}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        if self.is_running:
            return
        if not self._data.is_initialised:
            self._data.initialise(self._program("initdb"), self._run_dir, is_synced=not self._is_throwaway)
        self._data.check()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = self._wants_port or _free_port()
            reason = self._launch()
            if reason is None:
                return
            is_port_taken = "could not create any TCP/IP sockets" in reason
            if self._wants_port or not is_port_taken or attempt == _PORT_ATTEMPTS:
                raise ConfigError(f"the embedded Postgres did not start: {reason}")

    def stop(self) -> None:
        """Shut the server down and keep its data."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def kill(self) -> None:
        """Kill the server; the data directory is kept as it is."""
        process, self._process = self._process, None
        if process is not None:
            process.kill(self.pid)

    def close(self) -> None:
        """Stop the server and remove temporary files. The object cannot be used again."""
        self.stop()
        shutil.rmtree(self._run_dir, ignore_errors=True)

    def _program(self, name: str) -> str:
        if self._programs is None:
            installed = self._installed or find_programs(self.version)
            self._programs = programs_for(self._account, installed, self._run_dir)
        return str(self._programs / name)

    def _launch(self) -> str | None:
        """Start the server on `self.port`; None once it is ready, else the reason why it exited."""
        command = [self._program("postgres"), "-D", str(self.data_dir)]
        command += ["-p", str(self.port), "-k", str(self._run_dir)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        log = self.data_dir / "server.log"
        self._process = ServerProcess(command, self._account, log, self._run_dir)
        deadline = time.monotonic() + _START_DEADLINE_S
        while self.is_running and time.monotonic() < deadline:
            if self._is_ready():
                return None
            time.sleep(_READINESS_POLL_S)
        self.stop()
        return error_line(log.read_text(errors="replace"))

    def _is_ready(self) -> bool:
        """Whether the server accepts connections on its socket, on which no other server can listen."""
        try:
            psycopg.connect(
                host=str(self._run_dir), port=self.port, user=SUPERUSER, dbname="postgres", connect_timeout=5
            ).close()
        except psycopg.OperationalError:
            return False
        return True


def _make_run_dir(account: Account) -> Path:
    is_too_long = len(os.fsencode(tempfile.gettempdir())) > _SOCKET_PATH_BYTES
    path = Path(tempfile.mkdtemp(prefix="pgshapes-", dir="/tmp" if is_too_long else None))
    account.chown(path)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
