"""A herd of clients and its server, with counts that are read from outside the server.

Snapshot queries are read from Postgres's own log, calls from a tap on the owner's mailbox, the rest from
`/metrics`; clients and servers are processes of their own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.servers.herd_server import calls_path, options_path, owner_path
from tests.support.servers.ports import free_port
from tests.support.servers.servers import Server

from pgshapes.embedded.server import EmbeddedPostgres

LOGGING_SETTINGS = {**SERVER_SETTINGS, "log_statement": "all", "log_line_prefix": "%n %d "}
CREATE = "create_or_wait_shape_handle"
RESOLVE = "resolve_shape"
WAIT_S = 60.0

_COPY = re.compile(
    r'^([0-9.]+) (\S*) LOG:  statement: SAVEPOINT unplanned; COPY .*?FROM (?:ONLY )?"public"\."(\w+)"',
    re.MULTILINE,
)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """The answer to one client; status 0 when the server closed the connection, -1 after the timeout."""

    status: int
    path: str = ""
    handle: str | None = None
    retry_after: int = -1
    after_s: float = 0.0
    size: int = 0
    crc: int = 0
    text: str = ""
    error: str = ""


class Clients:
    """A client process: many connections, one request each."""

    def __init__(self, host: str, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.clients.herd_client", host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )

    def open(self, paths: Sequence[str]) -> None:
        """Connect for each path."""
        self._do("open", list(paths))

    def send(self) -> None:
        """Send all requests at once."""
        self._do("send", None)

    def leave(self, count: int | None = None) -> int:
        """Close the first waiting connections, or all."""
        return int(self._do("leave", count))

    def collect(self, timeout_s: float = WAIT_S) -> list[Answer]:
        """All answers."""
        return [Answer(**found) for found in self._do("collect", timeout_s)]

    def ask(self, paths: Sequence[str]) -> None:
        """Connect and send."""
        self.open(paths)
        self.send()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _do(self, verb: str, argument: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({verb: argument}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Metrics:
    """The samples of `/metrics` at one time."""

    def __init__(self, samples: list[Any]) -> None:
        self._samples = samples

    def sum(self, name: str, **labels: str) -> float:
        """The sum over all processes, and over the labels that are not given."""
        values: list[float] = [
            sample.value
            for sample in self._samples
            if sample.name == f"pgshapes_{name}" and labels.items() <= sample.labels.items()
        ]
        return sum(values)


class Stage:
    """A server under a herd, and its counters."""

    def __init__(self, server: Server, postgres: EmbeddedPostgres, workers: int, metrics_port: int) -> None:
        self.server = server
        self.workers = workers
        self.processes = max(workers, 1)
        self._metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self._postgres_log = postgres.data_dir / "server.log"

    # --- clients and sessions

    def table(self, rows: int = 10, *, name: str = "t") -> str:
        """A new table."""
        table = f"{name}_{next(_numbers)}"
        self.server.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, pad text)")
        self.server.sql(f"INSERT INTO {table} SELECT i, repeat('x', 50) FROM generate_series(1, {rows}) i")
        return table

    def path(self, table: str, **params: str) -> str:
        """The first request for a shape."""
        return "/v1/shape?" + urlencode({"table": table, "offset": "-1"} | params)

    @contextlib.contextmanager
    def clients(self) -> Iterator[Clients]:
        """A client process."""
        clients = Clients("127.0.0.1", self.server.port)
        try:
            yield clients
        finally:
            clients.close()

    @contextlib.contextmanager
    def session(self) -> Iterator[psycopg.Connection]:
        """A transaction that is rolled back at the end, if it is not before."""
        with psycopg.connect(self.server.database_url) as session:
            yield session
            session.rollback()

    @property
    def owner_pid(self) -> int:
        """The process that owns the tables."""
        return int(owner_path(self.server.storage_dir).read_text())

    def block_owner(self) -> None:
        """Keep the owner's loop busy for a second."""
        os.kill(self.owner_pid, signal.SIGUSR1)

    # --- counts

    def calls(self, tag: str, *tables: str) -> int:
        """Calls that the owner has received for these tables."""
        lines = calls_path(self.server.storage_dir).read_text().splitlines()
        found = Counter((line["call"], line["table"]) for line in map(json.loads, lines))
        return sum(found[(tag, table)] for table in tables)

    def snapshot_queries(self, *tables: str) -> int:
        """Snapshot queries on these tables that Postgres has begun."""
        return len(self.snapshot_times(*tables))

    def snapshot_times(self, *tables: str) -> list[float]:
        """When these queries began, in seconds."""
        found = _COPY.findall(self._postgres_log.read_text(errors="replace"))
        database = self.server.database_url.rpartition("/")[2]
        return [float(at) for at, name, table in found if table in tables and name == database]

    def metric(self, name: str, **labels: str) -> float:
        """The sum over processes of a metric."""
        return self.metrics().sum(name, **labels)

    def metrics(self) -> Metrics:
        """All metrics at one time."""
        text = httpx.get(self._metrics_url, timeout=10).text
        families = text_string_to_metric_families(text)
        return Metrics([sample for family in families for sample in family.samples])

    def wait_for(self, name: str, value: float, **labels: str) -> None:
        """Wait until a metric has a value."""
        self.until(lambda: self.metric(name, **labels) == value, f"{name} = {value}")

    def until(self, happened: Callable[[], object], what: str) -> None:
        """Wait until a check is true."""
        deadline = time.monotonic() + WAIT_S
        while not happened():
            assert time.monotonic() < deadline, f"{what} did not come: {self.server.log_end()}"
            time.sleep(0.02)

    def wait_until_up(self) -> None:
        """Wait until all processes answer with their metrics, ready or not."""
        expected = self.workers + 1 if self.workers else 1
        self.until(lambda: self._is_up(expected), "the server")

    def _is_up(self, processes: int) -> bool:
        try:
            return self.metric("process_up") == processes
        except httpx.TransportError:
            return False

    def files(self) -> int:
        """Directories of shapes on disk, without those in the trash."""
        logs = self.server.storage_dir / "logs"
        return sum(1 for path in logs.rglob("*") if path.is_dir() and re.fullmatch(r"\d{30,}", path.name))


@contextlib.contextmanager
def stage(
    postgres: EmbeddedPostgres,
    workers: int,
    *,
    options: dict[str, Any] | None = None,
    is_launched: bool = True,
    role: str | None = None,
    module: str = "tests.support.servers.herd_server",
    **settings: Any,
) -> Iterator[Stage]:
    """A server with taps on a database of its own, active unless the test launches it. With a `role`
    server and test come as that role, which is made, rather than as the superuser.
    """
    with (
        fresh_database(postgres) as admin_url,
        _as_role(admin_url, role) as url,
        tempfile.TemporaryDirectory(prefix="pgshapes-herd-", ignore_cleanup_errors=True) as own,
    ):
        storage_dir, port = Path(own) / "storage", free_port()
        options_path(storage_dir).write_text(json.dumps(options or {}))
        calls_path(storage_dir).touch()
        settings |= {"workers": workers, "prometheus_port": port}
        server = Server(url, storage_dir, module=module, **settings)
        try:
            if is_launched:
                server.start()
            yield Stage(server, postgres, workers, port)
        finally:
            if server.process is not None:
                server.kill()


@contextlib.contextmanager
def _as_role(admin_url: str, role: str | None) -> Iterator[str]:
    """The URL for a role that may replicate and publish what is its own, and nothing else."""
    if role is None:
        yield admin_url
        return
    parts = urlsplit(admin_url)
    database = parts.path.strip("/")
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"DROP ROLE IF EXISTS {role}")
        admin.execute(f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'secret'")
        admin.execute(f"GRANT CREATE ON DATABASE {database} TO {role}")
        admin.execute(f"GRANT ALL ON SCHEMA public TO {role}")
    yield parts._replace(netloc=f"{role}:secret@{parts.hostname}:{parts.port}").geturl()
