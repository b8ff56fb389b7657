"""Nothing acknowledged is lost and nothing is told twice when the power goes (design §8, semantics §18, 6).

The server runs on files that forget what was not synced. After each kill the disk is rebuilt from what was
durable plus a random part of the rest, the server is started again, and every follower goes on from where it
was: what it has must still be the beginning of what the server tells, or the handle must be gone.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from tests import writers
from tests.forgetful_files import forget
from tests.forgetful_server import durable_root
from tests.materialised import Materialised, Refetch, Row
from tests.selected import select_rows
from tests.servers import Server, running_server

KILLS = 8


@contextmanager
def forgetful_server(database_url: str, **settings: object) -> Iterator[Server]:
    """A server on a disk that forgets."""
    with running_server(
        database_url,
        module="tests.forgetful_server",
        allow_delete=True,
        long_poll_timeout_ms=1000,
        **settings,
    ) as server:
        yield server


def cut_power(server: Server, seed: int) -> None:
    """Kill the server, and let its disk forget."""
    server.kill()
    forget(server.storage_dir / "logs", durable_root(server.storage_dir), seed)


class Follower:
    """A client with its own copy, and all that it was told of each handle."""

    def __init__(self, server: Server, params: dict[str, str]) -> None:
        self.server = server
        self.params = params
        self.shape = Materialised(server.shape_url, params)
        self.refetches = 0

    def follow(self, client: httpx.Client, lsn: int) -> None:
        """Follow until `lsn`; a 409 starts anew."""
        while True:
            try:
                self.shape.follow_until(client, lsn)
                return
            except Refetch:
                self.refetches += 1
                self.shape = Materialised(self.server.shape_url, self.params)

    def step(self, client: httpx.Client) -> None:
        """Some requests in the middle of things."""
        try:
            for _ in range(4):
                self.shape.request(client)
        except Refetch:
            self.refetches += 1
            self.shape = Materialised(self.server.shape_url, self.params)

    def check(self, client: httpx.Client, connection: psycopg.Connection) -> None:
        """The copy equals a SELECT, and so does a fresh copy of the same handle."""
        table, where = self.params["table"], self.params.get("where", "true")
        while True:
            # A copy that starts anew has a younger snapshot than the SELECT: compare the next one.
            self.follow(client, 0)
            copy = self.shape
            visibility, lsn, expected = select_rows(connection, table, where)
            self.follow(client, lsn)
            if self.shape is copy:
                break
        assert self.shape.rows_as_of(visibility) == expected
        anew = Materialised(self.server.shape_url, self.params)
        anew.follow_until(client, lsn)
        if anew.handle == self.shape.handle:
            told, again = self.shape.log, anew.log
            size = min(len(told), len(again))
            assert told[:size] == again[:size]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk_bytes", [1_000, 10_485_760], ids=["1kB", "default"])
def test_power_cuts_lose_and_double_nothing(database_url: str, chunk_bytes: int) -> None:
    """Followers of three shapes live through power cuts, in the middle of creations, appends, syncs and
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
    """Ask for a removal without waiting for what becomes of it."""
    if handle is not None:
        client.delete(server.shape_url, params={"handle": handle})


@pytest.mark.timeout(300)
def test_a_removed_shape_never_comes_back(database_url: str) -> None:
    """A truncate that was told with a 409 stays told, also when the power goes right after."""
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


@pytest.mark.timeout(300)
def test_a_storage_directory_older_than_the_slot_is_not_believed(database_url: str, tmp_path: Path) -> None:
    """A restored copy of the files lacks what the slot has let go of: everybody refetches."""
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
