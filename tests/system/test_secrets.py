"""No secret, and no part of one, in anything that the program writes or shows, whatever goes wrong.

Looked through: standard output and error, the command lines of all processes, the environment of child
processes, the metrics, and the responses.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest
from tests.support.clients.pending import until
from tests.support.servers.ports import free_port
from tests.support.servers.processes import session_members
from tests.support.servers.servers import Server

PASSWORD = "kraken@walrus/octopus:jackal?badger#civet%40mongoose"
POOLED_PASSWORD = "lynx-ocelot@tapir"
SECRET = "ibex&gazelle=okapi"
TOKEN = "puffin-dodo"
PARTS = re.compile(
    "kraken|walrus|octopus|jackal|badger|civet|mongoose|lynx|ocelot|tapir|ibex|gazelle|okapi|puffin|dodo"
)
OPTIONS = quote(f"-c my.token={TOKEN}", "")
END_S = 60.0

both_forms = pytest.mark.parametrize("workers", [0, 2])


class Watched(Server):
    """A server whose output, processes and responses are searched for secrets."""

    metrics_port = 0

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def get(self, **parameters: str) -> httpx.Response:
        """A response of the shape endpoint."""
        query = {"table": "hidden", "offset": "-1", "secret": SECRET, **parameters}
        answer = httpx.get(self.shape_url, params=query, timeout=END_S)
        self.check(f"{answer.headers} {answer.text}", "a response")
        return answer

    def check(self, text: str, what: str) -> None:
        """Fail if the text contains a part of a secret."""
        assert PARTS.search(text) is None, f"{what}: {text}"

    def check_all(self) -> None:
        """Look through everything that is visible now."""
        assert self.process is not None
        if self.process.poll() is None:
            for url in (self.metrics_url, f"{self.url}/v1/health"):
                with contextlib.suppress(httpx.TransportError):
                    self.check(httpx.get(url, timeout=END_S).text, url)
            for pid in session_members(self.process.pid):
                self.check(read(pid, "cmdline"), "a command line")
            for pid in self.children():
                self.check(read(pid, "environ"), "the environment of a child")
        self.check(self.log_path.read_text(), "the output")


def read(pid: int, name: str) -> str:
    """A file of a process in /proc; empty if the process has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    return ""


@contextlib.contextmanager
def watched(url: str, storage_dir: Path, workers: int, *, pooled_url: str | None = None) -> Iterator[Watched]:
    """A server that was started with these URLs, ready or not."""
    port = free_port()
    more = {} if pooled_url is None else {"pooled_database_url": pooled_url}
    server = Watched(
        "postgresql:///watched",
        storage_dir,
        workers=workers,
        secret=SECRET,
        prometheus_port=port,
        replication_stream_id=f"secrets_{workers}",
        log_level="debug",
        **more,
    )
    server.metrics_port = port
    server.database_url = url
    server.launch()
    try:
        yield server
        server.check_all()
    finally:
        if server.process is not None:
            server.kill()


def said(server: Watched, text: str) -> None:
    """Wait until the log says it, then look through everything."""
    until(lambda: text in server.log_path.read_text(), f"a line with {text}")
    server.check_all()


def refused(server: Watched, text: str) -> None:
    """Wait for the end with exit code 2 and this reason, then look through everything."""
    assert server.process is not None
    assert server.process.wait(END_S) == 2, server.log_end()
    assert text in server.log_path.read_text()
    server.check_all()


@pytest.fixture
def storage_dir(tmp_path: Path) -> Path:
    """A storage directory of the test's own."""
    return tmp_path / "storage"


@pytest.fixture
def role(sql: psycopg.Connection) -> Iterator[str]:
    """A superuser with the password."""
    name = f"hidden_{sql.info.dbname}"
    sql.execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    sql.execute("CREATE TABLE hidden (id int PRIMARY KEY)")
    sql.execute(f"ALTER TABLE hidden OWNER TO {name}")
    yield name
    sql.execute(f"DROP OWNED BY {name}")
    sql.execute(f"DROP ROLE {name}")


@pytest.fixture
def pooled_role(sql: psycopg.Connection) -> Iterator[str]:
    """A role that may read, with the other password."""
    name = f"reader_{sql.info.dbname}"
    sql.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{POOLED_PASSWORD}' IN ROLE pg_read_all_data")
    yield name
    sql.execute(f"DROP ROLE {name}")


def with_login(url: str, role: str, password: str) -> str:
    """The URL for another login, with secret options."""
    return f"postgresql://{role}:{quote(password, '')}@{url.partition('@')[2]}?options={OPTIONS}&pool={TOKEN}"


@both_forms
def test_a_good_connection_and_its_loss(
    sql: psycopg.Connection, database_url: str, role: str, pooled_role: str, storage_dir: Path, workers: int
) -> None:
    url = with_login(database_url, role, PASSWORD)
    pooled_url = with_login(database_url, pooled_role, POOLED_PASSWORD)
    with watched(url, storage_dir, workers, pooled_url=pooled_url) as server:
        server.wait_active()
        said(server, "database_url='pool' pooled_database_url='pool'")
        assert server.get().status_code == 200
        assert server.get(secret=SECRET[:4]).status_code == 401
        assert server.get(table="nowhere").status_code == 400
        assert server.get(where="id = 'x").status_code == 400
        assert server.get(columns="nowhere").status_code == 400
        server.check_all()
        sql.execute(f"ALTER ROLE {role} PASSWORD 'another'")
        sql.execute(f"ALTER ROLE {pooled_role} PASSWORD 'another'")
        mine = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY (%s)"
        sql.execute(mine, ([role, pooled_role],))
        said(server, f'password authentication failed for user "{role}"')
        assert server.get(where="id > 0").status_code == 503
        server.check_all()


@both_forms
@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1:{port}", "Connection refused"), ("nowhere.invalid", "failed to resolve host")],
)
def test_a_database_that_is_waited_for(storage_dir: Path, workers: int, host: str, reason: str) -> None:
    url = with_login(f"x@{host.format(port=free_port())}/app", "me", PASSWORD)
    with watched(url, storage_dir, workers, pooled_url=url) as server:
        said(server, reason)
        assert server.get().status_code == 503


@both_forms
def test_a_wrong_password(database_url: str, role: str, storage_dir: Path, workers: int) -> None:
    with watched(with_login(database_url, role, PASSWORD + "x"), storage_dir, workers) as server:
        refused(server, f'password authentication failed for user "{role}"')


@both_forms
def test_a_pooler_that_is_not_there(database_url: str, role: str, storage_dir: Path, workers: int) -> None:
    url = with_login(database_url, role, PASSWORD)
    pooled_url = with_login(f"x@127.0.0.1:{free_port()}/app", "me", POOLED_PASSWORD)
    with watched(url, storage_dir, workers, pooled_url=pooled_url) as server:
        said(server, "the pooled database cannot be used")
        assert server.get().status_code == 503


@both_forms
def test_a_wrong_password_of_the_pooler(
    database_url: str, role: str, pooled_role: str, storage_dir: Path, workers: int
) -> None:
    url = with_login(database_url, role, PASSWORD)
    pooled_url = with_login(database_url, pooled_role, POOLED_PASSWORD + "x")
    with watched(url, storage_dir, workers, pooled_url=pooled_url) as server:
        refused(server, "check user and password in POOLED_DATABASE_URL")


@both_forms
@pytest.mark.parametrize("name", ["database_url", "pooled_database_url"])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://me:kraken@walrus@127.0.0.1/app", "contains a raw @"),
        ("postgresql://me:kraken/walrus@127.0.0.1/app", "contains a raw / or @"),
        ("postgresql://me:kraken%walrus@127.0.0.1/app", "contains a raw %"),
        ("postgresql://me:kraken walrus@127.0.0.1/app", "contains a space"),
        ("postgresql://me:kraken@127.0.0.1:walrus/app", "has a port that is not a number"),
        ("postgresql://me:kraken@[127.0.0.1/app", "unbalanced brackets"),
        ("mysql://me:kraken@127.0.0.1/app", "begins with mysql://"),
        ("me:kraken@127.0.0.1/app", "must look like postgresql://"),
        ("user=me password='kraken", "cannot be read"),
        ("user=me password=kraken walrus=1", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_read(storage_dir: Path, workers: int, name: str, url: str, reason: str) -> None:
    good = f"postgresql://me@127.0.0.1:{free_port()}/app"
    urls = {"url": url} if name == "database_url" else {"url": good, "pooled_url": url}
    with watched(storage_dir=storage_dir, workers=workers, **urls) as server:
        refused(server, reason)


@pytest.mark.parametrize("option", ["work_mem={}", "no_such_parameter={}", "work_mem=1MB {}"])
def test_options_that_the_server_refuses(
    database_url: str, role: str, storage_dir: Path, option: str
) -> None:
    options = quote("-c " + option.format(TOKEN), "")
    url = f"postgresql://{role}:{quote(PASSWORD, '')}@{database_url.partition('@')[2]}?options={options}"
    with watched(url, storage_dir, 0) as server:
        refused(server, "correct the parameters in DATABASE_URL")


@both_forms
def test_secrets_that_are_given_as_options(
    database_url: str, role: str, storage_dir: Path, workers: int
) -> None:
    server = Watched(database_url, storage_dir, workers=workers, secret="")
    url = with_login(database_url, role, PASSWORD)
    server.arguments = ["--database-url", url, f"--pooled-database-url={url}", "--secret", SECRET]
    server.launch()
    try:
        server.wait_active()
        assert server.get().status_code == 200
        server.check_all()
    finally:
        server.kill()
