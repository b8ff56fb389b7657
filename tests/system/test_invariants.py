"""The guarantees of docs/semantics.md, checked while writers write.

A separate slot records what was committed, when and in which order; clients that began before, in the
middle and after are held against it. Invariant 6, that nothing is lost whenever the server is killed, has
tests of its own: `test_restart.py`, `test_syncing_under_load.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from tests.support.clients.followers import Followers, Recorded, following
from tests.support.clients.materialised import Materialised, Row, apply_change
from tests.support.clients.pending import end_mark
from tests.support.postgres import writers
from tests.support.postgres.bursts import bursts
from tests.support.postgres.history import Definition, History, Message, begin_history, read_history
from tests.support.postgres.selected import COLUMNS
from tests.system.conftest import Environment

from pgshapes.model.offset import Offset, parse_offset
from pgshapes.model.visibility import SnapshotVisibility

TRANSACTIONS = 60
"""Transactions of each of the three writers."""


def tenant(row: Row) -> int:
    """The value of a column."""
    return int(row["tenant"] or 0)


def number(row: Row) -> int:
    """The value of a column."""
    return int(row["n"] or 0)


EARLY = [
    Definition({}, lambda row: True),
    Definition({"where": "tenant = 1"}, lambda row: tenant(row) == 1),
    Definition(
        {"where": "n % 2 = 0 OR tenant > 2", "replica": "full"},
        lambda row: number(row) % 2 == 0 or tenant(row) > 2,
        is_full=True,
    ),
]
LATE = [
    Definition({"replica": "full"}, lambda row: True, is_full=True),
    Definition({"where": "tenant IN (2, 3)"}, lambda row: tenant(row) in (2, 3)),
    Definition({"where": "n < 500000"}, lambda row: number(row) < 500_000),
]


@dataclass
class Run:
    """A history of changes, and what clients received of it."""

    env: Environment
    history: History
    early: list[Recorded]
    late: list[Recorded]

    def definitions_and_clients(self) -> Iterator[tuple[Definition, Recorded]]:
        """Each client with its definition."""
        yield from zip([*EARLY, *LATE], [*self.early, *self.late], strict=True)


@pytest.fixture(scope="module")
def run(env: Environment) -> Run:
    """Writers write; three clients begin before them, three in the middle."""
    env.sql.execute(writers.CREATE.format(table="changed"))
    slot = begin_history(env.sql, "changed")
    early, late = clients(env, EARLY), clients(env, LATE)
    with httpx.Client() as client:
        for shape in early:
            shape.catch_up(client)
    with following(early) as first:
        with bursts(env.url, "changed", TRANSACTIONS):
            while not all(shape.log for shape in early):
                first.check()
            second = Followers(late)
            second.start()
        lsn = end_mark(env.sql, "INSERT INTO changed VALUES (1000000, 1, 2, NULL)")
        second.finish(lsn)
        first.finish(lsn)
    history = asyncio.run(read_history(env.url, env.sql, slot, "changed", COLUMNS))
    return Run(env, history, early, late)


def clients(env: Environment, definitions: list[Definition]) -> list[Recorded]:
    """A client for each definition."""
    return [Recorded(env.server.shape_url, {"table": "changed", **one.params}) for one in definitions]


# --- 1


def test_the_rows_are_the_tables_at_the_lsn_that_is_claimed(run: Run) -> None:
    """At every response that says `up-to-date`, not only at the end."""
    for definition, shape in run.definitions_and_clients():
        lsns = [state.lsn for state in shape.states]
        assert len(lsns) > 2
        assert lsns == sorted(lsns)
        for state, expected in zip(shape.states, run.history.rows_at(definition, lsns), strict=True):
            assert state.rows == expected


# --- 2


def test_each_change_is_sent_once_in_commit_order(run: Run) -> None:
    """Either the snapshot has it or the log; the log is in commit order and has nothing else."""
    for definition, shape in run.definitions_and_clients():
        seen = visibility(shape)
        snapshot: dict[str, Row] = {}
        log: list[Message] = []
        for message in run.history.messages(definition):
            if seen.sees_xid(message["headers"]["txids"][0]):
                apply_change(snapshot, message)
            else:
                log.append(message)
        assert shape.snapshot_rows == snapshot
        assert [without_last(message) for message in shape.log] == log
        assert lasts(shape.log) == lasts_expected(log)
    assert all(shape.snapshot_rows for shape in run.late)


def visibility(shape: Recorded) -> SnapshotVisibility:
    """What the shape's snapshot saw."""
    (end,) = [
        message["headers"]
        for response in shape.records
        for message in response.messages
        if message["headers"].get("control") == "snapshot-end"
    ]
    return SnapshotVisibility(int(end["xmin"]), int(end["xmax"]), tuple(map(int, end["xip_list"])), 0)


def without_last(message: Message) -> Message:
    """The message without the parts that depend on the client."""
    headers = {name: value for name, value in message["headers"].items() if name != "last"}
    return {**message, "headers": headers}


def lasts(log: list[Message]) -> list[bool]:
    """Which messages say that they end their transaction."""
    return ["last" in message["headers"] for message in log]


def lasts_expected(log: list[Message]) -> list[bool]:
    """Which messages do end one."""
    lsns = [message["headers"]["lsn"] for message in log]
    return [lsn != following for lsn, following in zip(lsns, [*lsns[1:], ""], strict=True)]


# --- 3


def test_a_client_may_resume_at_every_offset_it_has_received(run: Run) -> None:
    """Also after a stop or a kill, and on every worker."""
    server = run.env.server
    replay_some(run, 0)
    server.stop()
    server.start()
    replay_some(run, 1)
    server.kill()
    server.start()
    replay_some(run, 2)


def replay_some(run: Run, turn: int) -> None:
    """Resume at a third of some offsets of each client, and always at the last one."""
    for shape in [*run.early, *run.late]:
        offsets = sample([response.end for response in shape.records], 9)
        for offset in {*offsets[turn::3], offsets[-1]}:
            assert replay(shape, offset) == shape.changes_after(offset)


def replay(shape: Recorded, offset: Offset) -> list[Message]:
    """All changes from an offset to the end, on a new connection."""
    messages = []
    with httpx.Client(verify=False) as client:
        is_up_to_date = False
        while not is_up_to_date:
            response = ask(client, shape, offset)
            place = parse_offset(response.headers["electric-offset"])
            messages += response.json()
            is_up_to_date = "electric-up-to-date" in response.headers
            assert place >= offset
            offset = place
    return [message for message in messages if "key" in message]


def ask(client: httpx.Client, shape: Materialised, offset: Offset, **more: str) -> httpx.Response:
    """A request of the shape at an offset."""
    params = shape.params | {"handle": shape.handle or "", "offset": str(offset), **more}
    response = client.get(shape.shape_url, params=params, timeout=60)
    assert response.status_code == 200, response.text
    return response


def sample(offsets: list[Offset], count: int) -> list[Offset]:
    """Some of the offsets, the first and the last among them."""
    distinct = sorted(set(offsets))
    step = max(1, len(distinct) // count)
    return sorted({*distinct[::step], distinct[-1]})


# --- 4


class Halved(AssertionError):
    """A state that was never committed."""


@dataclass
class Balanced(Materialised):
    """A client that checks the sum of all balances."""

    def take(self, response: httpx.Response) -> httpx.Response:
        """Apply a response; when it is up to date, no money may be missing."""
        super().take(response)
        if self.is_up_to_date:
            balances = [int(row["balance"] or 0) for row in self.rows.values()]
            if len(balances) != ACCOUNTS or sum(balances) != ACCOUNTS * 100:
                raise Halved(f"{len(balances)} accounts with {sum(balances)} at {self.offset}")
        return response


ACCOUNTS = 24


def transfer(connection: psycopg.Connection, table: str, chance: random.Random) -> None:
    """Money goes from some accounts to others; sometimes an account gets another id."""
    with connection.transaction(force_rollback=chance.random() < 0.05):
        numbers = sorted(chance.sample(range(ACCOUNTS), chance.choice((2, 4, 8, ACCOUNTS))))
        amounts = [chance.randint(-50, 50) for _ in numbers[1:]]
        for account, amount in zip(numbers, [*amounts, -sum(amounts)], strict=True):
            connection.execute(
                f"UPDATE {table} SET balance = balance + %s, pad = %s WHERE number = %s",
                (amount, "p" * chance.choice((0, 20, 300)), account),
            )
        if chance.random() < 0.2:
            connection.execute(f"UPDATE {table} SET id = id + {ACCOUNTS} WHERE number = %s", (numbers[0],))


def test_no_half_transaction_is_ever_up_to_date(env: Environment) -> None:
    """Followers and new clients read while writers transfer money; an up-to-date client has the full sum."""
    env.sql.execute("CREATE TABLE accounts (id int PRIMARY KEY, number int UNIQUE, balance int, pad text)")
    env.sql.execute(f"INSERT INTO accounts SELECT i, i, 100, '' FROM generate_series(0, {ACCOUNTS - 1}) i")
    followers = [balanced(env, replica) for replica in ("default", "full") * 3]
    with following(followers) as racing:
        with (
            bursts(env.url, "accounts", 40, transaction=transfer) as is_over,
            ThreadPoolExecutor(3) as threads,
        ):
            for new_clients in [threads.submit(read_repeatedly, env, is_over) for _ in range(3)]:
                assert new_clients.result() > 0
        lsn = end_mark(env.sql, "UPDATE accounts SET pad = 'the end' WHERE number = 0")
        racing.finish(lsn)
    rows = {str(row[0]): str(row[1]) for row in env.sql.execute("SELECT id, balance FROM accounts")}
    for shape in followers:
        assert {row["id"]: row["balance"] for row in shape.rows.values()} == rows


def balanced(env: Environment, replica: str) -> Balanced:
    """A client of all accounts."""
    return Balanced(env.server.shape_url, {"table": "accounts", "replica": replica})


def read_repeatedly(env: Environment, is_over: Callable[[], bool]) -> int:
    """Read everything from the start, again and again; how often."""
    times = 0
    with httpx.Client(verify=False) as client:
        while not is_over() or not times:
            shape = balanced(env, "default")
            shape.catch_up(client)
            shape.request(client, live=True)
            times += 1
    return times


# --- 7


def test_the_same_request_gets_the_same_bytes(run: Run) -> None:
    """From every process: a cache may give one client's response to another."""
    for shape in run.early:
        for offset in sample([response.end for response in shape.records], 12):
            assert len({request_again(shape, offset) for _ in range(5)}) == 1


def request_again(shape: Recorded, offset: Offset) -> tuple[bytes, str, str]:
    """A request on a connection of its own: body, offset and etag."""
    with httpx.Client(verify=False) as client:
        response = ask(client, shape, offset)
    return response.content, response.headers["electric-offset"], response.headers["etag"]


def test_all_waiting_clients_get_the_same_bytes(env: Environment) -> None:
    """Live requests at the end of the log, held by every process, woken by one transaction."""
    env.sql.execute("CREATE TABLE waited (id int PRIMARY KEY, pad text)")
    shape = Materialised(env.server.shape_url, {"table": "waited"})
    with httpx.Client() as client, ThreadPoolExecutor(12) as threads:
        shape.catch_up(client)
        for number in range(6):
            env.sql.execute(f"INSERT INTO waited VALUES ({number}, '{'x' * 900}')")
            answers = [threads.submit(wait_once, shape) for _ in range(12)]
            assert len({answer.result() for answer in answers}) == 1
            shape.request(client, live=True)


def wait_once(shape: Materialised) -> tuple[bytes, str, str]:
    """One live request on a connection of its own: body, offset and etag."""
    with httpx.Client(verify=False) as client:
        response = ask(client, shape, shape.offset, live="true")
        while "key" not in response.text:
            response = ask(client, shape, shape.offset, live="true")
    return response.content, response.headers["electric-offset"], response.headers["etag"]


# --- 8

ODD = """
CREATE TYPE mood AS ENUM ('sad', 'it''s/fine');
CREATE TABLE "Odd.na/me" (
  "a/b" text, flag bool, address inet, amount numeric, at timestamptz, how mood, span interval, raw bytea,
  note text, PRIMARY KEY ("a/b", flag, address, amount, at, how, span, raw));
INSERT INTO "Odd.na/me" VALUES
  ('x/y"z', true, '10.0.0.1', 1.50, '2024-01-31 12:00+02', 'sad', '1 day 2 hours', '\\x00ff', 'a'),
  ('', false, '10.0.0.0/8', 'NaN', 'infinity', 'it''s/fine', '-1 mon', '', 'ü€😀'),
  (E'line\\nbreak\\t', true, '::1', 1e20, '0001-01-01 BC', 'sad', '0', '\\x5c', NULL)
"""
KEYLESS = """
CREATE TABLE keyless (a text, b bool, c float8);
INSERT INTO keyless VALUES ('x', true, 1e-7), (NULL, NULL, NULL), ('_', false, '-0'), ('/', true, 'NaN')
"""


@pytest.mark.parametrize(
    ("statements", "table", "change"),
    [
        (ODD, '"Odd.na/me"', "note = coalesce(note, '') || '!'"),
        (KEYLESS, "keyless", None),
    ],
    ids=["odd", "keyless"],
)
def test_a_row_has_the_same_key_in_snapshot_and_log(
    env: Environment, statements: str, table: str, change: str | None
) -> None:
    """The snapshot's keys come from SQL, the log's from the wire."""
    env.sql.execute(statements)
    shape = Materialised(env.server.shape_url, {"table": table, "replica": "full"})
    with httpx.Client() as client:
        shape.catch_up(client)
        first = dict(shape.rows)
        if change is not None:
            env.sql.execute(f"UPDATE {table} SET {change}")
            follow_log(shape, client, len(first))
            assert shape.rows.keys() == first.keys()
        again = Materialised(env.server.shape_url, {"table": table})
        again.catch_up(client)
        assert again.rows == shape.rows
        env.sql.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table}; DELETE FROM {table}")
        follow_log(shape, client, len(shape.log) + len(first))
        assert shape.rows == {}
        env.sql.execute(f"INSERT INTO {table} SELECT * FROM kept; DROP TABLE kept")
        follow_log(shape, client, len(shape.log) + len(first))
        assert shape.rows == again.rows
    env.sql.execute(f"DROP TABLE {table}")


def follow_log(shape: Materialised, client: httpx.Client, count: int) -> None:
    """Follow until so many changes were received."""
    while len(shape.log) < count:
        shape.request(client, live=shape.is_up_to_date)
