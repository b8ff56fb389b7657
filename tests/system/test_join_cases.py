"""The join of snapshot and WAL in the cases that a load test does not reach, one by one.

Each case is produced deterministically: a test continues when Postgres or the server has shown that the state
is reached. The strict client then shows that each row was sent once.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from tests.support.clients.materialised import Materialised
from tests.support.clients.pending import until, until_query
from tests.support.postgres.databases import fresh_database
from tests.support.postgres.installations import postgres_of
from tests.support.postgres.unconfirmed import UNCONFIRMED_SETTINGS, WAITING, patient_url, unconfirmed
from tests.support.servers.scene import (
    LEFT_PUBLICATION,
    MODES,
    Scene,
    has_waited,
    ids,
    key,
    open_writer,
    publish_and_drop,
    scene,
    until_waiting,
)

from pgshapes.embedded.server import EmbeddedPostgres

# --- commits that hang in synchronous replication


@pytest.fixture(scope="module")
def unconfirmed_server() -> Iterator[EmbeddedPostgres]:
    """A Postgres on which commits wait for a synchronous standby that does not exist."""
    with postgres_of(settings=UNCONFIRMED_SETTINGS) as server:
        yield server


@pytest.fixture
def unconfirmed_url(unconfirmed_server: EmbeddedPostgres) -> Iterator[str]:
    """A database on it, for sessions that wait for the standby."""
    with fresh_database(unconfirmed_server) as url:
        yield patient_url(url)


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_own_commits_wait_for_no_standby(unconfirmed_url: str, workers: int, chunk_bytes: int) -> None:
    """An unavailable standby must not delay publishing a table, or keep locks on it."""
    with scene(unconfirmed_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        shape = stage.shape(table="items")
        answer = stage.ask(shape)
        until(lambda: answer.done() or stage.sql.execute(WAITING).fetchone() != (0,), "an answer")
        assert stage.sql.execute(WAITING).fetchone() == (0,)
        stage.check([shape], "items")
        stage.client.delete(stage.server.shape_url, params={"handle": shape.handle or "", "table": "items"})
        until_query(stage.sql, LEFT_PUBLICATION, "items")
        assert stage.sql.execute(WAITING).fetchone() == (0,)


@pytest.mark.parametrize("comes_back", [None, "stop", "kill"], ids=["running", "SIGTERM", "kill"])
@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_a_change_that_is_delivered_and_not_visible_when_the_shape_is_made(
    unconfirmed_url: str, workers: int, chunk_bytes: int, comes_back: str | None
) -> None:
    """Delivered before the shape was registered, invisible to its first snapshots: the snapshot is taken
    again until it has the row. What was delivered and acknowledged before a restart counts as well.
    """
    with (
        scene(unconfirmed_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage,
        unconfirmed(stage.sql) as hanging,
    ):
        witness = stage.shape(table="items")
        stage.sql.execute("INSERT INTO items VALUES (1)")
        witness.catch_up(stage.client)
        hanging.begin("INSERT INTO items VALUES (2)")
        hanging.hang()
        stage.follow_to_row(witness, key("items", 2))
        assert stage.selected("items") == [1]
        if comes_back is not None:
            restart_after_acknowledgement(stage, witness, comes_back)
        shape = stage.shape(table="items", where="id > 0")
        answer = stage.ask(shape)
        until(lambda: answer.done() or has_retaken(stage.sql), "a retake")
        hanging.release()
        answer.result()
        shape.catch_up(stage.client)
        assert ids(shape.snapshot_rows) == [1, 2]
        stage.check([witness, shape], "items")


def restart_after_acknowledgement(stage: Scene, witness: Materialised, how: str) -> None:
    """Restart once Postgres will not deliver again what the witness has received."""
    confirmed = "SELECT FROM pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn - '0/0' > %s"
    until_query(stage.sql, confirmed, stage.server.slot, witness.offset.tx)
    getattr(stage.server, how)()
    stage.server.start()


def has_retaken(sql: psycopg.Connection) -> bool:
    """Whether a session of the server has discarded a snapshot."""
    return sql.execute("SELECT FROM pg_stat_activity WHERE query = 'ROLLBACK'").fetchone() is not None


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_what_is_visible_follows_what_is_not_in_the_log(
    unconfirmed_url: str, workers: int, chunk_bytes: int
) -> None:
    """The log has first a transaction past the snapshot's xmax and then one that the snapshot sees: the LSN
    ends the tests of visibility, not the xid.
    """
    with (
        scene(unconfirmed_url, workers=workers, chunk_bytes_threshold=chunk_bytes, db_pool_size=1) as stage,
        unconfirmed(stage.sql) as low,
        unconfirmed(stage.sql) as high,
    ):
        witness = stage.shape(table="items")
        witness.catch_up(stage.client)
        shape = stage.shape(table="items", replica="full")
        with snapshots_wait(stage):
            answer = ask_and_register(stage, shape)
            low.begin("INSERT INTO items VALUES (11)")
            high.begin("INSERT INTO items VALUES (12)")
            high.hang()
            low.pass_by()
            stage.follow_to_row(witness, key("items", 12))
            stage.follow_to_row(witness, key("items", 11))
            assert [message["value"]["id"] for message in witness.log] == ["12", "11"]
            assert not answer.done()
        answer.result()
        shape.catch_up(stage.client)
        assert ids(shape.snapshot_rows) == [11]
        assert ids(shape.rows) == [11, 12]
        high.release()
        stage.check([witness, shape], "items")


@contextmanager
def snapshots_wait(stage: Scene) -> Iterator[None]:
    """Keep the only connection for snapshots busy with a table that is locked."""
    stage.sql.execute("CREATE TABLE other (id int PRIMARY KEY)")
    first = stage.shape(table="other")
    first.catch_up(stage.client)
    with psycopg.connect(stage.sql.info.dsn, password=stage.sql.info.password) as locker:
        locker.execute("LOCK TABLE other IN ACCESS EXCLUSIVE MODE")
        slow = stage.ask(stage.shape(table="other", replica="full"))
        waiting = "wait_event_type = 'Lock' AND query LIKE '%ACCESS SHARE MODE%'"
        until_query(stage.sql, f"SELECT FROM pg_stat_activity WHERE {waiting}")
        yield
        locker.rollback()
    slow.result()


def ask_and_register(stage: Scene, shape: Materialised) -> Future[httpx.Response]:
    """Request a shape, and wait until it is registered: its table's membership is looked up after that."""
    (now,) = stage.sql.execute("SELECT clock_timestamp()").fetchone() or (None,)
    answer = stage.ask(shape)
    until_query(
        stage.sql,
        "SELECT FROM pg_stat_activity WHERE query LIKE '%%SELECT wanted.oid%%'"
        " AND state = 'idle' AND query_start > %s AND pid <> pg_backend_pid()",
        now,
    )
    return answer


# --- writers that are open across the creation


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_a_writer_that_is_open_across_the_creation(database_url: str, workers: int, chunk_bytes: int) -> None:
    """Its first rows were written before the table was in the publication; the creation waits for it, and
    no other request does.
    """
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        stage.sql.execute("CREATE TABLE quiet (id int PRIMARY KEY)")
        publish_and_drop(stage, "items", "INSERT INTO items VALUES (1)")
        shape = stage.shape(table="items")
        with open_writer(stage, "INSERT INTO items VALUES (2)") as writer:
            answer = stage.ask(shape)
            until_waiting(stage, answer)
            quiet = stage.shape(table="quiet")
            quiet.catch_up(stage.client)
            writer.execute("INSERT INTO items VALUES (3)")
        answer.result()
        shape.catch_up(stage.client)
        stage.check([shape], "items")
        assert has_waited(stage)


@pytest.mark.slow
def test_the_error_at_the_deadline_names_the_table_lock(database_url: str) -> None:
    """The creation continues after its caller's deadline; the next request gets its result."""
    with scene(database_url, workers=2) as stage:
        publish_and_drop(stage, "items", "INSERT INTO items VALUES (1)")
        with open_writer(stage, "INSERT INTO items VALUES (2)"):
            refused = stage.client.get(
                stage.server.shape_url, params={"table": "items", "offset": "-1"}, timeout=60
            )
            assert refused.status_code == 503
            assert refused.json() == {"message": "Snapshot timed out while waiting for a table lock"}
            assert refused.headers["electric-internal-known-error"] == "true"
            assert int(refused.headers["retry-after"]) > 0
            shape = stage.shape(table="items")
            answer = stage.ask(shape)
        answer.result()
        stage.check([shape], "items")


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_a_prepared_transaction(database_url: str, workers: int, chunk_bytes: int) -> None:
    """It has no session but is an open writer; prepared before the creation, committed after it."""
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        publish_and_drop(stage, "items", "INSERT INTO items VALUES (1)")
        stage.sql.execute("BEGIN; INSERT INTO items VALUES (2); PREPARE TRANSACTION 'old'")
        shape = stage.shape(table="items")
        answer = stage.ask(shape)
        until_waiting(stage, answer)
        stage.sql.execute("COMMIT PREPARED 'old'")
        answer.result()
        stage.sql.execute("BEGIN; INSERT INTO items VALUES (3); PREPARE TRANSACTION 'new'")
        shape.catch_up(stage.client)
        younger = stage.shape(table="items", replica="full")
        younger.catch_up(stage.client)
        stage.sql.execute("COMMIT PREPARED 'new'")
        stage.check([shape, younger], "items")
        assert has_waited(stage)
