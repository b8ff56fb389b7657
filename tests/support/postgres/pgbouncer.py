"""A pgbouncer in front of an embedded server, if the machine has it (Debian's package of that name)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers.ports import free_port

from pgshapes.embedded.binaries import server_account

START_TIMEOUT_S = 20.0


def pgbouncer_program() -> str | None:
    """The path of the program; it may be in a directory that only root has in its path."""
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def running_pgbouncer(url: str, *, mode: str = "transaction", pool_size: int = 3) -> Iterator[str]:
    """The URL of the database through a pgbouncer, for the role of `url`."""
    program, account, port = pgbouncer_program(), server_account(), free_port()
    if program is None:
        raise RuntimeError("pgbouncer is not installed")
    with tempfile.TemporaryDirectory(prefix="pgshapes-pgbouncer-") as name:
        directory = Path(name)
        account.chown(directory)
        settings = directory / "pgbouncer.ini"
        settings.write_text(_settings(url, directory, port, mode, pool_size))
        (directory / "users").write_text(f'"{urlsplit(url).username}" "{urlsplit(url).password}"\n')
        for path in directory.iterdir():
            account.chown(path)
        process = subprocess.Popen(
            [program, "-q", str(settings)],
            user=account.uid,
            group=account.gid,
            cwd="/",
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port, process)
            parts = urlsplit(url)
            yield f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}"
        finally:
            process.terminate()
            process.wait()


def _settings(url: str, directory: Path, port: int, mode: str, pool_size: int) -> str:
    parts = urlsplit(url)
    return f"""
[databases]
* = host={parts.hostname} port={parts.port} user={parts.username} password={parts.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {directory}/users
pool_mode = {mode}
default_pool_size = {pool_size}
logfile = {directory}/log
"""


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise RuntimeError(f"pgbouncer did not start: {process.poll()}")
