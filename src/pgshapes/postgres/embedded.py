"""A Postgres server of our own, for development and tests: started, stopped, killed and thrown away here.

It is not for production: it listens on 127.0.0.1 and on a socket in a private directory only. Clients over
TCP need the password, which is made up at `initdb` and kept beside the data.

Invariant: the server ends when this object, its process, or its guard ends; a throwaway directory goes with
it. State: the data directory belongs to the server; the run directory (socket, copied programs, throwaway
data) to this object.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self
from urllib.parse import quote

import psycopg

from pgshapes.errors import ConfigError
from pgshapes.postgres import embedded_guard
from pgshapes.postgres.embedded_binaries import Account, programs_for, server_account

_START_DEADLINE_S: Final = 60.0
"""A start after a crash replays WAL first."""
_READINESS_POLL_S: Final = 0.02
_PORT_ATTEMPTS: Final = 5
_SOCKET_PATH_BYTES: Final = 80
"""A unix socket's path has at most 107 bytes, of which the socket's own name takes some."""

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
"""Commits survive `kill` (the page cache does), not a power cut."""


class EmbeddedPostgres:
    """One server. Without a data directory its data are thrown away when it is closed."""

    def __init__(
        self,
        data_dir: Path | None = None,
        version: int = 16,
        settings: Mapping[str, str] = MappingProxyType({}),
        port: int | None = None,
    ) -> None:
        self.version = version
        self.port = port or 0
        self._wants_port = port
        self._account = server_account()
        self._run_dir = _make_run_dir(self._account)
        self._is_throwaway = data_dir is None
        self.data_dir = self._run_dir / "data" if data_dir is None else data_dir.absolute()
        self._settings = {**_SETTINGS, **(_THROWAWAY_SETTINGS if data_dir is None else {}), **settings}
        self._programs: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None

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
        """Whether the server has been started and has not ended."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def socket_dir(self) -> str:
        """The directory of the unix socket: it asks no password, but lets only the server's user in."""
        return str(self._run_dir)

    @property
    def pid(self) -> int:
        """The server's process id. Raises ConfigError when it does not run."""
        try:
            return int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            raise ConfigError("the embedded Postgres is not running") from None

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """A connection URL over TCP; the password is that of the superuser `postgres`."""
        return (
            f"postgresql://{quote(user, '')}:{self._password()}@127.0.0.1:{self.port}/{quote(database, '')}"
        )

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Raises ConfigError with its reason."""
        if self.is_running:
            return
        if not (self.data_dir / "PG_VERSION").exists():
            self._initialise()
        self._check_data_version()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = self._wants_port or _free_port()
            reason = self._launch()
            if reason is None:
                return
            if (
                self._wants_port
                or "could not create any TCP/IP sockets" not in reason
                or attempt == _PORT_ATTEMPTS
            ):
                raise ConfigError(f"the embedded Postgres did not start: {reason}")

    def stop(self) -> None:
        """Shut the server down and keep its data."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError), guard.stdin:
                guard.stdin.write(b".")
        guard.wait()

    def kill(self) -> None:
        """End the server at once with all its processes, as a power cut would; the data stay as they are."""
        victims = [*_children_of(self.pid), self.pid]
        for pid in reversed(victims):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in victims:
            _wait_gone(pid)
        self.stop()

    def close(self) -> None:
        """Stop the server; remove what is not to be kept. The object is of no use afterwards."""
        self.stop()
        shutil.rmtree(self._run_dir, ignore_errors=True)

    def _program(self, name: str) -> str:
        if self._programs is None:
            self._programs = programs_for(self.version, self._account, self._run_dir)
        return str(self._programs / name)

    def _password(self) -> str:
        try:
            return (self.data_dir / "superuser_password").read_text()
        except OSError:
            raise ConfigError(
                f"{self.data_dir} was not made by pgshapes: it has no file superuser_password"
            ) from None

    def _initialise(self) -> None:
        _make_data_dir(self.data_dir, self._account)
        password = self._run_dir / "superuser_password"
        password.write_text(secrets.token_hex(16))
        password.chmod(0o600)
        self._account.own(password)
        done = self._account.run(self._initdb_command(password))
        if done.returncode != 0:
            raise ConfigError(
                f"initdb in {self.data_dir} failed as {self._account.name}: {_last_line(done.stderr)}"
            )
        shutil.copy2(password, self.data_dir)
        self._account.own(self.data_dir / password.name)
        password.unlink()

    def _initdb_command(self, password: Path) -> list[str]:
        command = [
            self._program("initdb"),
            "-D",
            str(self.data_dir),
            "-U",
            "postgres",
            f"--pwfile={password}",
        ]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        # The password has 128 random bits: stretching it would only make each connection slower.
        command += ["-c", "scram_iterations=1"]
        return [*command, "--no-sync"] if self._is_throwaway else command

    def _check_data_version(self) -> None:
        found = (self.data_dir / "PG_VERSION").read_text().strip()
        if found != str(self.version):
            raise ConfigError(
                f"{self.data_dir} holds data of Postgres {found}: choose that version or another directory"
            )

    def _launch(self) -> str | None:
        """Start the server on `self.port`; None once it is ready, else the reason why it ended."""
        log = self.data_dir / "server.log"
        self._guard = self._start_guard(log)
        deadline = time.monotonic() + _START_DEADLINE_S
        while self.is_running and time.monotonic() < deadline:
            if self._is_ready():
                return None
            time.sleep(_READINESS_POLL_S)
        self.stop()
        return _last_line(log.read_text(errors="replace"))

    def _start_guard(self, log: Path) -> subprocess.Popen[bytes]:
        account = self._account
        command = [sys.executable, "-I", "-S", embedded_guard.__file__]
        command += [str(account.uid or ""), str(account.gid or "")]
        command += [str(self._run_dir) if self._is_throwaway else "", self._program("postgres")]
        command += ["-D", str(self.data_dir), "-p", str(self.port), "-k", str(self._run_dir)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with log.open("wb") as output:
            account.own(log)
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd="/", start_new_session=True
            )

    def _is_ready(self) -> bool:
        try:
            address = {
                "host": str(self._run_dir),
                "port": self.port,
                "user": "postgres",
                "dbname": "postgres",
            }
            psycopg.connect(**address, connect_timeout=5).close()  # type: ignore[arg-type]
        except psycopg.OperationalError:
            return False
        return True


def _make_run_dir(account: Account) -> Path:
    long_place = len(os.fsencode(tempfile.gettempdir())) > _SOCKET_PATH_BYTES
    path = Path(tempfile.mkdtemp(prefix="pgshapes-", dir="/tmp" if long_place else None))
    account.own(path)
    return path


def _make_data_dir(path: Path, account: Account) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ConfigError(
                f"{path} is neither empty nor the data of a Postgres server: choose another directory"
            )
        account.own(path)
        path.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"cannot make the data directory {path}: {error.strerror}") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(text: str) -> str:
    """The line that says why it failed: the last one that names an error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (telling or lines or ["it said nothing"])[-1]


def _children_of(parent: int) -> list[int]:
    """Process ids of the children where the system tells them (Linux); elsewhere they follow soon."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = path.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == parent:
                children.append(int(path.parent.name))
    return children


def _wait_gone(pid: int) -> None:
    """Wait until no live process has this id. An ended one that nobody has waited for yet counts as gone."""
    while True:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.005)
