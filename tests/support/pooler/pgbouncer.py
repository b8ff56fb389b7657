"""A running PgBouncer in front of a server of the tests."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psycopg
import pytest
from tests.support.pooler.installation import FOLDER, PROGRAM, REASON, environment
from tests.support.servers.ports import free_port
from tests.support.servers.servers import end_with_tests

from pgshapes.embedded.binaries import server_account

_START_S: Final = 30.0

_CONFIGURATION: Final = """
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {place}/users
pool_mode = {mode}
default_pool_size = {size}
"""


@contextlib.contextmanager
def pgbouncer(
    server_port: int, passwords: Mapping[str, str], *, mode: str = "transaction", size: int = 3
) -> Iterator[int]:
    """The port of a pooler for these users. Skips the test where PgBouncer cannot be had."""
    if REASON.exists() or not FOLDER.exists():
        pytest.skip(
            REASON.read_text() if REASON.exists() else "run python -m tests.support.pooler.installation"
        )
    account = server_account()
    # Not from the checkout: PgBouncer does not run as root, and others may not read that.
    place = Path(tempfile.mkdtemp(prefix="pgshapes-pooler-"))
    place.chmod(0o755)
    try:
        shutil.copytree(FOLDER, place / "installed", symlinks=True)
        port = free_port()
        text = _CONFIGURATION.format(server_port=server_port, port=port, place=place, mode=mode, size=size)
        (place / "configuration").write_text(text)
        (place / "users").write_text("".join(f'"{name}" "{word}"\n' for name, word in passwords.items()))
        account.chown(place / "users")
        (place / "users").chmod(0o600)
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                [place / "installed" / PROGRAM, place / "configuration"],
                env=environment(place / "installed"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=account.uid,
                group=account.gid,
                extra_groups=None if account.uid is None else [],
                preexec_fn=end_with_tests,  # noqa: PLW1509 - it calls one C function
            )
        try:
            _wait(process, port, place / "log")
            yield port
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until it answers, if only with a refusal of the password."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=nobody dbname=nothing password=x").close()
        except psycopg.OperationalError as error:
            if "refused" not in str(error):
                return
        time.sleep(0.02)
    raise RuntimeError(f"PgBouncer did not start: {log.read_text(errors='replace')}")
