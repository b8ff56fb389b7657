"""`pgshapes serve` logs the failing lines of `pgshapes doctor` once, and starts or fails as without them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.postgres.roles import as_role, role
from tests.support.servers.servers import Server, running_server

from pgshapes.embedded.server import EmbeddedPostgres

EVENT = "event='database check failed'"
END_S = 60.0

both_forms = pytest.mark.parametrize("workers", [0, 1])


def failed_start(server: Server) -> list[str]:
    """The lines of a server that ends at its start with status 2."""
    server.launch()
    process = server.process
    assert process is not None
    try:
        assert process.wait(END_S) == 2, server.log_end()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        server.process = None
    return server.log_path.read_text().splitlines()


@both_forms
def test_all_reasons_precede_the_error(
    sql: psycopg.Connection, database_url: str, tmp_path: Path, workers: int
) -> None:
    sql.execute("CREATE TABLE x (id int PRIMARY KEY)")
    with role(sql, f"new_{workers}", "swordfish") as name:
        url = as_role(database_url, name, "swordfish")
        *lines, error = failed_start(Server(url, tmp_path / "storage", workers=workers))
    assert error.startswith("pgshapes: User does not have the REPLICATION attribute")
    checks = [line for line in lines if EVENT in line]
    assert ["check='REPLICATION'" in line for line in checks].count(True) == 1
    assert any(f'GRANT CREATE ON DATABASE "{sql.info.dbname}"' in line for line in checks)
    assert any("must be owner of table x" in line for line in checks)
    assert "swordfish" not in "".join(lines)


def test_a_server_without_logical_wal(tmp_path: Path) -> None:
    with EmbeddedPostgres(settings={"wal_level": "replica"}) as postgres:
        lines = failed_start(Server(postgres.url(), tmp_path / "storage"))
    (check,) = [line for line in lines if EVENT in line]
    assert "ALTER SYSTEM SET wal_level" in check


@both_forms
def test_a_server_that_starts_says_it_once(sql: psycopg.Connection, database_url: str, workers: int) -> None:
    sql.execute("CREATE UNLOGGED TABLE x (id int PRIMARY KEY); CREATE TABLE y (id int PRIMARY KEY)")
    with running_server(database_url, workers=workers) as server:
        until(lambda: EVENT in server.log_path.read_text(), "the failing line")
        if workers:
            os.kill(server.children()[0], signal.SIGKILL)
            until(lambda: server.log_path.read_text().count("replication started") == 2, "the restart")
        sql.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        until(lambda: "reconnecting" in server.log_path.read_text(), "the lost connection")
        server.wait_active()
        assert server.stop() == 0
        (line,) = [each for each in server.log_path.read_text().splitlines() if EVENT in each]
    assert 'ALTER TABLE "public"."x" SET LOGGED;' in line
    assert "is unlogged" in line


def test_a_database_in_order_is_not_mentioned(sql: psycopg.Connection, database_url: str) -> None:
    sql.execute("CREATE TABLE y (id int PRIMARY KEY)")
    with running_server(database_url) as server:
        asked = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pgshapes doctor'"
        until(lambda: sql.execute(asked).fetchall() == [], "the end of the checks")
        assert server.stop() == 0
        assert EVENT not in server.log_path.read_text()
