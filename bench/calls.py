"""`python -m bench.calls`: how many function calls of our own an operation takes, in how many source files.

    python -m bench.calls --files      with a table of calls by file for each operation
    python -m bench.calls --json       and everything again, by function, as JSON in the last line

What is counted: each entry into a function whose code lies under `src/pgshapes`, on the thread of the event
loop, as `sys.setprofile` reports it. Calling a coroutine function counts once, when it first runs; later
resumptions of it do not count, nor do those of a generator. A generator expression counts as a function; a
comprehension does not, because Python 3.12 and later inline it. Not counted: other packages (uvicorn,
psycopg), code that `dataclass` and `NamedTuple` generate, what runs in other threads, functions in C.

One operation begins when the server is quiet and ends when it is quiet again, so it includes what follows the
answer. Shown is the run whose number of calls is the median: work that comes by the clock (keepalives,
acknowledgements, housekeeping) falls into few runs and so is not in it. For creations it is the first
quartile: in about half of the runs, more on a busy machine, the reader comes before the snapshot is written
and waits for it, in 26 to 45 calls more.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import click
import psycopg
import uvloop
from bench.counted_server import Calls, CountedServer, counted_server
from bench.load import get_many
from bench.proc import conditions, cpu_s
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database

from pgshapes.embedded.server import EmbeddedPostgres

CACHED, POLLS, TRANSACTIONS, CREATIONS = 200, 15, 200, 50
TIMED_GETS, TIMED_TRANSACTIONS = 20_000, 10_000
LIMIT_S: Final = 30.0
COLUMNS: Final = "(id int PRIMARY KEY, name text, tenant int)"
TEN_ROWS: Final = "SELECT i, 'name ' || i, i FROM generate_series(1, 10) i"


@dataclass
class Count:
    """One kind of operation: its runs, and the representative one."""

    about: str
    runs: list[Calls] = field(repr=False)
    share: float = 0.5
    """Position of the shown run when all are sorted by their number of calls; the median by default."""

    @property
    def shown(self) -> Calls:
        """The representative run."""
        return sorted(self.runs, key=total)[int((len(self.runs) - 1) * self.share)]

    def by_file(self) -> Counter[str]:
        """Calls by file below `src/pgshapes`."""
        found: Counter[str] = Counter()
        for entry, number in self.shown.items():
            found[entry.file] += number
        return found

    def by_function(self) -> Counter[str]:
        """Calls by function, each named `file:function`."""
        found: Counter[str] = Counter()
        for entry, number in self.shown.items():
            found[entry.function] += number
        return found

    def as_json(self) -> dict[str, Any]:
        """The results as a dictionary."""
        totals = [total(run) for run in self.runs]
        return {
            "about": self.about,
            "calls": total(self.shown),
            "files": len(self.by_file()),
            "runs": len(totals),
            "least": min(totals),
            "most": max(totals),
            "runs_by_calls": dict(sorted(Counter(totals).items())),
            "by_file": dict(self.by_file().most_common()),
            "by_function": dict(self.by_function().most_common()),
        }


class Client:
    """One keep-alive connection to the server, and one to its database."""

    def __init__(self, server: CountedServer, sql: psycopg.Connection) -> None:
        self.server = server
        self._sql = sql
        self._http = HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)
        self._ids = iter(range(1_000, 1_000_000))

    def await_active(self) -> None:
        """Wait until the server follows the database."""
        deadline = time.monotonic() + LIMIT_S
        while self._ask("/v1/health")[0] != 200:
            assert time.monotonic() < deadline, "the server did not become active"
            time.sleep(0.05)

    def get(self, query: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of the answer to a GET of a shape."""
        status, headers, body = self._ask(f"/v1/shape?{query}")
        assert status == 200, body
        return headers, body

    def insert(self) -> int:
        """Commit one row; its id."""
        number = next(self._ids)
        self._sql.execute("INSERT INTO small VALUES (%s, 'a name', 1)", (number,))
        return number

    def make_table(self, name: str) -> None:
        """A table of ten rows."""
        self._sql.execute(f"CREATE TABLE {name} {COLUMNS}")
        self._sql.execute(f"INSERT INTO {name} {TEN_ROWS}")

    def end_of(self, table: str) -> str:
        """The query of a live request at the end of a table's log."""
        headers, _ = self.get(f"table={table}&offset=-1")
        while "electric-up-to-date" not in headers:
            headers, _ = self.get(_after(table, headers))
        return _after(table, headers)

    def count(self, about: str, runs: int, operation: Callable[[int], object]) -> Count:
        """Do it once without counting, and then so many times."""
        counts = []
        for number in range(runs + 1):
            self.server.take()
            operation(number)
            counts.append(self.server.take())
        return Count(about, counts[1:])

    def _ask(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self._http.request("GET", path)
        response = self._http.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()


def total(calls: Calls) -> int:
    """All calls of a run."""
    return sum(calls.values())


def _after(table: str, headers: dict[str, str]) -> str:
    return f"table={table}&offset={headers['electric-offset']}&handle={headers['electric-handle']}"


def counts(client: Client) -> dict[str, Count]:
    """Each operation, by its name."""
    client.get("table=small&offset=-1")
    found = {
        "cached GET": client.count(
            "a snapshot chunk of 10 rows from the body cache, offset=-1, no handle",
            CACHED,
            lambda _: client.get("table=small&offset=-1"),
        )
    }
    live = client.end_of("small") + "&live=true"
    found["parked GET"] = client.count(
        "a live long poll at the end of the log, from its first byte through its wait of 1 s to the answer at"
        " the time limit; nothing changes meanwhile",
        POLLS,
        lambda _: client.get(live),
    )
    found |= transaction_counts(client)
    return found | creation_counts(client)


def transaction_counts(client: Client) -> dict[str, Count]:
    """A transaction, up to where readers can see it and up to where all is quiet."""
    whole = client.count(
        "the same, with what makes it durable and is acknowledged afterwards",
        TRANSACTIONS,
        lambda _: client.insert(),
    )
    path = Count(
        "one row in one shape without waiting clients: what runs in the stream's reader, from its bytes to"
        " the published tail",
        [_under_one_root(run) for run in whole.runs],
    )
    return {"one-row transaction": path, "… until durable": whole}


def _under_one_root(run: Calls) -> Calls:
    """The calls below the outermost function that has most of them: for a transaction, the reader."""
    roots: Counter[str] = Counter()
    for entry, number in run.items():
        roots[entry.root] += number
    most = roots.most_common(1)[0][0] if roots else ""
    return {entry: number for entry, number in run.items() if entry.root == most}


def creation_counts(client: Client) -> dict[str, Count]:
    """New shapes of ten rows, on tables that other shapes have brought into the publication."""
    for number in range(CREATIONS + 1):
        client.make_table(f"table_{number}")
        client.get(f"table=table_{number}&offset=-1&columns=id")
    plain = client.count(
        "a new shape of 10 rows without a WHERE clause, on a table that is published already",
        CREATIONS,
        lambda number: client.get(f"table=table_{number}&offset=-1"),
    )
    filtered = client.count(
        "the same with the WHERE clause `tenant > -N`",
        CREATIONS,
        lambda number: client.get(f"table=small&offset=-1&where=tenant%3E{-number}"),
    )
    plain.share = filtered.share = 0.25
    return {"creation": plain, "… with a WHERE": filtered}


def cpu_us(client: Client) -> dict[str, float]:
    """CPU of the whole server process for one operation, without the profiler, in µs."""
    address = f"http://127.0.0.1:{client.server.port}/v1/shape?table=small&offset=-1"
    client.get("table=small&offset=-1")
    after = client.end_of("small")
    uvloop.run(get_many(address, 2_000, 16))
    return {
        "cached GET": _cpu_us(client, TIMED_GETS, lambda: uvloop.run(get_many(address, TIMED_GETS, 16))),
        "one-row transaction": _cpu_us(client, TIMED_TRANSACTIONS, lambda: _commit_many(client, after)),
    }


def _cpu_us(client: Client, operations: int, work: Callable[[], object]) -> float:
    samples = []
    for _ in range(3):
        before = cpu_s(client.server.pid)
        work()
        samples.append((cpu_s(client.server.pid) - before) / operations * 1e6)
    return statistics.median(samples)


def _commit_many(client: Client, after: str) -> None:
    """Commit one by one and wait until the last row can be read."""
    for _ in range(TIMED_TRANSACTIONS - 1):
        client.insert()
    wanted, query, body = b'"id":"%d"' % client.insert(), after, b""
    while wanted not in body:
        headers, body = client.get(query)
        query = _after("small", headers)


def run(profiles: bool, work: Callable[[Client], Any]) -> Any:
    """The result of work with a fresh server and database."""
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(settings=SERVER_SETTINGS))
        url = stack.enter_context(fresh_database(postgres))
        storage = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgshapes-calls-"))) / "storage"
        server = stack.enter_context(counted_server(url, storage, profiles=profiles))
        client = Client(server, stack.enter_context(psycopg.connect(url, autocommit=True)))
        client.await_active()
        client.make_table("small")
        return work(client)


def show(found: dict[str, Count], used: dict[str, float]) -> None:
    """The table."""
    print(f"{'operation':22}{'calls':>6}{'files':>6}{'least–most':>12}{'runs':>6}{'CPU µs':>8}")
    for name, count in found.items():
        line = count.as_json()
        cpu = f"{used[name]:.0f}" if name in used else ""
        spread = f"{line['least']}–{line['most']}"
        print(f"{name:22}{line['calls']:6}{line['files']:6}{spread:>12}{line['runs']:6}{cpu:>8}")
    for name, count in found.items():
        print(f"{name}: {count.about}")
    print(
        f"CPU: of the whole process, no profiler, median of 3; {TIMED_GETS:,} GETs on 16 connections;"
        f" {TIMED_TRANSACTIONS:,} transactions of one writer without a pause, with what makes them durable"
    )


def show_files(found: dict[str, Count]) -> None:
    """Calls by file."""
    for name, count in found.items():
        print(f"\n{name}")
        for file, number in count.by_file().most_common():
            print(f"{number:6}  {file}")


@click.command()
@click.option("--files", is_flag=True, help="Show the calls by file, too.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, too, in the last line.")
def main(files: bool, as_json: bool) -> None:
    """Count the function calls of four operations."""
    about = f"{conditions()}; Python {platform.python_version()}; one process, Postgres 16 with fsync off"
    print(f"conditions: {about}", flush=True)
    found: dict[str, Count] = run(True, counts)
    used: dict[str, float] = run(False, cpu_us)
    show(found, used)
    if files:
        show_files(found)
    if as_json:
        operations = {name: count.as_json() for name, count in found.items()}
        print(json.dumps({"conditions": about, "operations": operations, "cpu_us": used}))


if __name__ == "__main__":
    main()
