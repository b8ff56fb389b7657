"""Nothing acknowledged is lost and nothing is sent twice after a power cut.

The server runs on files that lose what was not synced. After each kill the disk is rebuilt from what was
durable plus a random part of the rest, the server is started again, and every follower continues from where
it was: what it has must still be the beginning of what the server sends, or the handle must have been
removed.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised, Refetch, Row
from tests.support.clients.pending import until
from tests.support.postgres import writers
from tests.support.postgres.selected import select_rows
from tests.support.servers.forgetful_server import SYNC_INTERVAL, durable_root, held_root
from tests.support.servers.servers import Server, running_server
from tests.support.storage.forgetful_files import forget
from tests.support.storage.held_files import hold, is_reached, release

KILLS = 6


@contextmanager
def forgetful_server(database_url: str, **settings: Any) -> Iterator[Server]:
    """A server on a disk that loses what was not synced."""
    with running_server(
        database_url,
        module="tests.support.servers.forgetful_server",
        allow_delete=True,
        long_poll_timeout_ms=1000,
        **settings,
    ) as server:
        yield server


def cut_power(server: Server, seed: int, *, survival: float = 0.5) -> None:
    """Kill the server, and drop all but a part of what was not synced."""
    server.kill()
    forget(server.storage_dir / "logs", durable_root(server.storage_dir), seed, survival=survival)


class Follower:
    """A client with its copy of the rows, and all messages that it received of each handle."""

    def __init__(self, server: Server, params: dict[str, str]) -> None:
        self.server = server
        self.params = params
        self.shape = Materialised(server.shape_url, params)
        self.refetches = 0

    def follow(self, client: httpx.Client, lsn: int) -> None:
        """Follow until `lsn`; after a 409 from the start."""
        while True:
            try:
                self.shape.follow_until(client, lsn)
                return
            except Refetch:
                self.refetches += 1
                self.shape = Materialised(self.server.shape_url, self.params)

    def step(self, client: httpx.Client) -> None:
        """Make some requests."""
        try:
            for _ in range(4):
                self.shape.request(client)
        except Refetch:
            self.refetches += 1
            self.shape = Materialised(self.server.shape_url, self.params)

    def check(self, client: httpx.Client, connection: psycopg.Connection) -> None:
        """Check that the copy equals a SELECT, and so does a new copy of the same handle."""
        table, where = self.params["table"], self.params.get("where", "true")
        while True:
            # A copy that starts again has a later snapshot than the SELECT: compare the next one.
            self.follow(client, 0)
            copy = self.shape
            visibility, lsn, expected = select_rows(connection, table, where)
            self.follow(client, lsn)
            if self.shape is copy:
                break
        assert self.shape.rows_as_of(visibility) == expected
        fresh = Materialised(self.server.shape_url, self.params)
        fresh.follow_until(client, lsn)
        if fresh.handle == self.shape.handle:
            earlier, later = self.shape.log, fresh.log
            size = min(len(earlier), len(later))
            assert earlier[:size] == later[:size]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk_bytes", [1_000, 10_485_760], ids=["1kB", "default"])
def test_power_cuts_lose_and_repeat_nothing(database_url: str, chunk_bytes: int) -> None:
    """Followers of three shapes continue after power cuts during creations, appends, syncs and
    removals.
    """
    chance = random.Random(20261123 + chunk_bytes)
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        forgetful_server(database_url, chunk_bytes_threshold=chunk_bytes) as server,
        httpx.Client() as client,
    ):
        connection.execute(writers.CREATE.format(table="items"))
        followers = [Follower(server, params) for params in PARAMS]
        with writers.writing(database_url, "items", writers=2, pause_s=0.02):
            for kill in range(KILLS):
                for follower in followers:
                    follower.step(client)
                if chance.random() < 0.3:
                    delete(client, server, chance.choice(followers).shape.handle)
                time.sleep(chance.random() * 0.8)
                cut_power(server, seed=kill)
                server.start()
                for follower in followers:
                    follower.check(client, connection)
        kept = sum(follower.refetches == 0 for follower in followers)
        assert sum(follower.refetches for follower in followers) <= KILLS, f"{kept} handles lived through"


PARAMS: list[dict[str, str]] = [
    {"table": "items"},
    {"table": "items", "where": "tenant = 1"},
    {"table": "items", "replica": "full"},
]


def delete(client: httpx.Client, server: Server, handle: str | None) -> None:
    """Request a removal without waiting for its result."""
    if handle is not None:
        client.delete(server.shape_url, params={"handle": handle})


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_removed_shape_is_not_restored(database_url: str) -> None:
    """A 409 for a truncate stays valid after a power cut right after it."""
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        forgetful_server(database_url) as server,
        httpx.Client() as client,
    ):
        connection.execute(writers.CREATE.format(table="items"))
        connection.execute("INSERT INTO items SELECT i, 1, i, 'x' FROM generate_series(1, 100) i")
        for seed in range(6):
            shape = Materialised(server.shape_url, {"table": "items"})
            shape.catch_up(client)
            time.sleep(0.3)
            connection.execute("TRUNCATE items")
            with pytest.raises(Refetch):
                while True:
                    shape.request(client, live=True)
            connection.execute("INSERT INTO items SELECT i, 1, i, 'x' FROM generate_series(1, 100) i")
            cut_power(server, seed)
            server.start()
            with pytest.raises(Refetch):
                shape.request(client)


# --- one order at a time: all that was not synced is lost


FIRST_ROWS = "INSERT INTO items SELECT i, 1, i, repeat('x', 100) FROM generate_series(1, 500) i"


@contextmanager
def one_shape(database_url: str) -> Iterator[Scene]:
    """A server on a disk that loses what was not synced, and a shape that follows a table."""
    with (
        psycopg.connect(database_url, autocommit=True) as sql,
        forgetful_server(database_url) as server,
        httpx.Client() as client,
    ):
        sql.execute(writers.CREATE.format(table="items"))
        sql.execute(FIRST_ROWS)
        shape = Materialised(server.shape_url, {"table": "items"})
        shape.catch_up(client)
        yield Scene(server, sql, client, shape)


class Scene(NamedTuple):
    """A server, its held files, and a client that follows a shape."""

    server: Server
    sql: psycopg.Connection
    client: httpx.Client
    shape: Materialised

    def insert(self, row: int) -> int:
        """Commit a row and follow the shape to it; the LSN of its commit."""
        self.sql.execute("INSERT INTO items VALUES (%s, 1, 1, 'x')", (row,))
        key = f'"public"."items"/"{row}"'
        while key not in self.shape.rows:
            self.shape.request(self.client, live=self.shape.is_up_to_date)
        return int(self.shape.log[-1]["headers"]["lsn"])

    def is_complete(self) -> bool:
        """Whether the catalogue has the shape's snapshot as complete."""
        return bool(self.catalogue_value("SELECT is_snapshot_complete FROM shapes"))

    def recorded_lsn(self) -> int:
        """The recorded LSN of the catalogue."""
        return int(json.loads(self.catalogue_value("SELECT value FROM facts WHERE name = 'recorded'"))["lsn"])

    def confirmed_lsn(self) -> int:
        """The LSN that was acknowledged to Postgres."""
        query = "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = %s"
        (lsn,) = self.sql.execute(query, (self.server.slot,)).fetchone() or (0,)
        return int(lsn)

    def has_confirmed(self, lsn: int) -> bool:
        """Whether Postgres may have removed the WAL of a transaction that committed there."""
        return self.confirmed_lsn() > lsn

    def catalogue_value(self, query: str) -> Any:
        """The one value that a query finds in the server's catalogue."""
        path = next(self.server.storage_dir.glob("catalogue.*.sqlite"))
        with contextlib.closing(sqlite3.connect(path)) as catalogue:
            return catalogue.execute(query).fetchone()[0]

    def check(self) -> None:
        """Check that the earlier client continues, and has the table's rows."""
        self.insert(10_000 + self.shape.responses)
        assert self.shape.rows == expected_rows(self.sql)
        fresh = Materialised(self.server.shape_url, self.shape.params)
        fresh.catch_up(self.client)
        assert (fresh.handle, fresh.rows) == (self.shape.handle, self.shape.rows)


def test_what_was_acknowledged_was_synced(database_url: str) -> None:
    """Postgres will not send it again."""
    with one_shape(database_url) as scene:
        until(scene.is_complete, "the snapshot")
        for row in (1001, 1002, 1003):
            lsn = scene.insert(row)
            until(partial(scene.has_confirmed, lsn), "an acknowledgement")
            cut_power(scene.server, seed=row, survival=0)
            scene.server.start()
            scene.check()


def test_nothing_is_recorded_before_the_sync_returns(database_url: str) -> None:
    """The position is neither recorded nor acknowledged before the sync has returned."""
    with one_shape(database_url) as scene:
        until(scene.is_complete, "the snapshot")
        held = held_root(scene.server.storage_dir)
        hold(held, "sync_files")
        lsn = scene.insert(1001)
        until(lambda: is_reached(held, "sync_files"), "a sync")
        assert not comes_true(lambda: max(scene.recorded_lsn(), scene.confirmed_lsn()) > lsn)
        cut_power(scene.server, seed=1, survival=0)
        release(held)
        scene.server.start()
        scene.check()


def test_a_snapshot_that_is_recorded_was_synced(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own sync, not by the periodic sync of the logs."""
    monkeypatch.setenv(SYNC_INTERVAL, "3600")
    with one_shape(database_url) as scene:
        until(scene.is_complete, "the snapshot")
        cut_power(scene.server, seed=1, survival=0)
        scene.server.start()
        scene.check()


def test_a_snapshot_is_not_recorded_before_it_is_synced(database_url: str) -> None:
    """Until then a crash removes the shape."""
    with one_shape(database_url) as scene:
        until(scene.is_complete, "the snapshot")
        held = held_root(scene.server.storage_dir)
        hold(held, "sync_files")
        other = Materialised(scene.server.shape_url, {"table": "items", "where": "id > 0"})
        other.catch_up(scene.client)
        until(lambda: is_reached(held, "sync_files"), "a sync")
        complete = "SELECT is_snapshot_complete FROM shapes WHERE handle = "
        assert scene.catalogue_value(f"{complete}'{scene.shape.handle}'") == 1
        assert scene.catalogue_value(f"{complete}'{other.handle}'") == 0
        cut_power(scene.server, seed=1, survival=0)
        release(held)
        scene.server.start()
        with pytest.raises(Refetch):
            other.request(scene.client)
        scene.check()


def test_the_wal_of_a_removal_waits_for_the_disk(database_url: str) -> None:
    """Otherwise the shape would be restored after a crash, without its truncate."""
    with one_shape(database_url) as scene:
        until(scene.is_complete, "the snapshot")
        lsn = scene.insert(1001)
        until(lambda: scene.recorded_lsn() > lsn, "a sync")
        held = held_root(scene.server.storage_dir)
        hold(held, "rename")
        scene.sql.execute("TRUNCATE items")
        (truncated,) = scene.sql.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone() or (0,)
        until(lambda: is_reached(held, "rename"), "the removal")
        scene.sql.execute(FIRST_ROWS)
        assert not comes_true(lambda: scene.recorded_lsn() >= truncated), "the truncate was let go of"
        cut_power(scene.server, seed=1, survival=0)
        release(held)
        scene.server.start()
        with pytest.raises(Refetch):
            scene.shape.request(scene.client)


def comes_true(check: Callable[[], bool], within_s: float = 1.0) -> bool:
    """Whether something that must not happen does, within a time in which it would have happened many
    times.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.timeout(300)
def test_a_storage_directory_older_than_the_slot_is_discarded(database_url: str, tmp_path: Path) -> None:
    """A restored copy of the files lacks WAL that the slot no longer has: every client refetches."""
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        running_server(database_url, storage_dir=tmp_path / "storage") as server,
        httpx.Client() as client,
    ):
        connection.execute(writers.CREATE.format(table="items"))
        shape = Materialised(server.shape_url, {"table": "items"})
        shape.catch_up(client)
        server.stop()
        shutil.copytree(server.storage_dir, tmp_path / "copy")
        server.start()
        connection.execute("INSERT INTO items VALUES (1, 1, 1, 'x')")
        shape.follow_until(client, lsn=shape.seen_lsn + 1)
        server.stop()
        shutil.rmtree(server.storage_dir)
        shutil.move(tmp_path / "copy", server.storage_dir)
        server.start()
        with pytest.raises(Refetch):
            shape.request(client)
        fresh = Materialised(server.shape_url, {"table": "items"})
        fresh.catch_up(client)
        assert fresh.rows == expected_rows(connection)


def expected_rows(connection: psycopg.Connection) -> dict[str, Row]:
    """All rows of the table."""
    return select_rows(connection, "items")[2]
