"""The server's certificate is verified if the URL or the setting says so, on every connection."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from tests.support.servers.servers import Server, running_server
from tests.support.servers.tls_front import CA, OTHER_CA, tls_front

from pgshapes.embedded.server import EmbeddedPostgres

END_S = 60.0


@pytest.fixture
def tls_url(postgres_server: EmbeddedPostgres, database_url: str) -> Iterator[str]:
    """The URL of the test's database, reached with TLS under the name of the certificate."""
    with tls_front(postgres_server.port) as port:
        login, _, rest = database_url.rpartition("@")
        yield f"{login}@localhost:{port}/{rest.partition('/')[2]}"


def serves_rows(server: Server, sql: psycopg.Connection) -> bool:
    """Whether a shape and a subset of it are served."""
    sql.execute("CREATE TABLE verified (id int PRIMARY KEY)")
    sql.execute("INSERT INTO verified VALUES (1)")
    shape = {"table": "verified", "offset": "-1"}
    subset = {"table": "verified", "offset": "now", "log": "changes_only", "subset__where": "id = 1"}
    answers = [httpx.get(server.shape_url, params=query, timeout=END_S) for query in (shape, subset)]
    return all(answer.status_code == 200 and '"id":"1"' in answer.text for answer in answers)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_setting_verifies_the_server(sql: psycopg.Connection, tls_url: str, workers: int) -> None:
    settings: dict[str, Any] = {"workers": workers, "database_ca_certificate_file": CA}
    with running_server(tls_url, pooled_database_url=f"{tls_url}?sslmode=require", **settings) as server:
        assert serves_rows(server, sql)
        assert server.stop() == 0


@pytest.mark.parametrize(
    "query",
    [
        f"sslmode=verify-full&sslrootcert={CA}",
        f"sslmode=verify-ca&sslrootcert={CA}",
        f"ssl=verify-full&sslrootcert={CA}",
        "sslmode=require",
        "ssl=true",
        "sslmode=no-verify",
    ],
)
def test_the_url_decides_without_the_setting(sql: psycopg.Connection, tls_url: str, query: str) -> None:
    with running_server(f"{tls_url}?{query}") as server:
        assert serves_rows(server, sql)


REFUSED = [
    ({"database_ca_certificate_file": OTHER_CA}, "", "certificate verify failed"),
    ({"database_ca_certificate_file": CA}, "host=127.0.0.1", "does not match host name"),
    ({}, f"sslmode=verify-full&sslrootcert={OTHER_CA}", "certificate verify failed"),
    ({}, "sslmode=verify-full&sslrootcert=system", "certificate verify failed"),
    ({}, "sslaccept=strict", "certificate verify failed"),
    ({}, "sslmode=verify-full&sslrootcert=/not/there", "root certificate file"),
    ({}, "sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
    ({"database_ca_certificate_file": CA}, "sslmode=disable", "has sslmode=disable: remove one of them"),
    ({"database_ca_certificate_file": "/not/there"}, "", "names a file that cannot be read"),
]


@pytest.mark.parametrize(("settings", "query", "reason"), REFUSED)
def test_a_server_that_cannot_be_trusted_ends_the_start(
    tls_url: str, tmp_path: Path, settings: dict[str, Any], query: str, reason: str
) -> None:
    assert reason in ended(Server(f"{tls_url}?{query}", tmp_path / "storage", **settings))


def test_a_server_without_tls_ends_the_start(database_url: str, tmp_path: Path) -> None:
    server = Server(database_url, tmp_path / "storage", database_ca_certificate_file=CA)
    assert "server does not support SSL" in ended(server)


def ended(server: Server) -> str:
    """The output of a server that ends with exit code 2."""
    server.launch()
    assert server.process is not None
    try:
        assert server.process.wait(END_S) == 2, server.log_end()
    except subprocess.TimeoutExpired:
        pytest.fail(f"it did not end: {server.log_end()}")
    finally:
        server.kill()
    return server.log_path.read_text()


def test_the_primary_is_found_among_several_hosts(sql: psycopg.Connection, tls_url: str) -> None:
    """The first one does not exist."""
    login, _, address = tls_url.rpartition("@")
    url = f"{login}@nowhere.invalid,{address.partition('/')[0]}/{address.partition('/')[2]}?ssl=true"
    with running_server(url) as server:
        assert serves_rows(server, sql)
