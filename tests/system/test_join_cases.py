"""The join of snapshot and WAL in the cases that fire does not hit, one by one (design §7).

Each case is brought about, not hoped for: a test goes on when Postgres or the server has shown that the state
is reached. The strict client then shows that each row was told once.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest
from tests.databases import fresh_database
from tests.materialised import Materialised, Refetch, Row
from tests.pending import Ask, end_mark, pending_requests, until, until_query
from tests.servers import Server, running_server
from tests.unconfirmed import UNCONFIRMED_SETTINGS, WAITING, patient_url, unconfirmed

from pgshapes.postgres.embedded import EmbeddedPostgres

MODES = [pytest.param(0, 1_000, id="1kB"), pytest.param(2, 10_000, id="10kB-workers")]

LEFT_PUBLICATION = """SELECT FROM pg_class c WHERE relname = %s AND NOT EXISTS (
  SELECT FROM pg_publication_rel m WHERE m.prrelid = c.oid)"""


class Scene(NamedTuple):
    """A server, a session of our own on its database, and a client."""

    server: Server
    sql: psycopg.Connection
    client: httpx.Client
    ask: Ask

    def shape(self, **params: str) -> Materialised:
        """A client that has nothing yet."""
        return Materialised(self.server.shape_url, params)

    def follow_to_row(self, shape: Materialised, key: str) -> None:
        """Follow until a row is there."""
        while key not in shape.rows:
            shape.request(self.client, live=shape.is_up_to_date)

    def check(self, shapes: list[Materialised], table: str) -> None:
        """Follow each shape to the end of what was committed, and compare with a SELECT."""
        lsn = end_mark(self.sql, table, "999")
        for shape in shapes:
            shape.follow_until(self.client, lsn)
            assert ids(shape.rows) == self.selected(table)

    def selected(self, table: str) -> list[int]:
        """The ids that a SELECT finds."""
        return [row[0] for row in self.sql.execute(f"SELECT id FROM {table} ORDER BY id")]


def ids(rows: dict[str, Row]) -> list[int]:
    """The ids of a client's rows."""
    return sorted(int(row["id"] or 0) for row in rows.values())


def key(table: str, row: int) -> str:
    """The key of a row."""
    return f'"public"."{table}"/"{row}"'


@contextmanager
def scene(url: str, **settings: object) -> Iterator[Scene]:
    """A running server with an empty table `items`."""
    with (
        psycopg.connect(url.partition("?")[0], autocommit=True) as sql,
        running_server(url, allow_delete=True, long_poll_timeout_ms=1000, **settings) as server,
        httpx.Client() as client,
        pending_requests(client) as ask,
    ):
        sql.execute("CREATE TABLE items (id int PRIMARY KEY, pad text DEFAULT repeat('x', 300))")
        yield Scene(server, sql, client, ask)


# --- commits that hang in synchronous replication


@pytest.fixture(scope="module")
def unconfirmed_server() -> Iterator[EmbeddedPostgres]:
    """A Postgres on which commits hang for a standby that nobody has."""
    with EmbeddedPostgres(settings=UNCONFIRMED_SETTINGS) as server:
        yield server


@pytest.fixture
def unconfirmed_url(unconfirmed_server: EmbeddedPostgres) -> Iterator[str]:
    """A database on it, for sessions that do wait for the standby."""
    with fresh_database(unconfirmed_server) as url:
        yield patient_url(url)


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_own_commits_wait_for_no_standby(unconfirmed_url: str, workers: int, chunk_bytes: int) -> None:
    """A standby that is away must not keep tables out of the publication, nor our locks on them."""
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
        assert not answer.done(), answer.result().text
        hanging.release()
        answer.result()
        shape.catch_up(stage.client)
        assert ids(shape.snapshot_rows) == [1, 2]
        stage.check([witness, shape], "items")


def restart_after_acknowledgement(stage: Scene, witness: Materialised, how: str) -> None:
    """Restart when Postgres will not deliver again what the witness has seen."""
    confirmed = "SELECT FROM pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn - '0/0' > %s"
    until_query(stage.sql, confirmed, stage.server.slot, witness.offset.tx)
    getattr(stage.server, how)()
    stage.server.start()


def has_retaken(sql: psycopg.Connection) -> bool:
    """Whether a session of the server has thrown away a snapshot."""
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
        copying = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%'"
        until_query(stage.sql, copying)
        yield
        locker.rollback()
    slow.result()


def ask_and_register(stage: Scene, shape: Materialised) -> Future[httpx.Response]:
    """Ask for a shape, and wait until it is registered: its table's membership is looked up after that."""
    (now,) = stage.sql.execute("SELECT clock_timestamp()").fetchone() or (None,)
    answer = stage.ask(shape)
    until_query(
        stage.sql,
        "SELECT FROM pg_stat_activity WHERE query LIKE '%%unnest%%wanted(oid)%%'"
        " AND state = 'idle' AND query_start > %s AND pid <> pg_backend_pid()",
        now,
    )
    return answer


# --- writers that are open across the creation


@contextmanager
def open_writer(stage: Scene, *statements: str) -> Iterator[psycopg.Connection]:
    """A session with a transaction in which the statements have run."""
    with psycopg.connect(stage.sql.info.dsn, password=stage.sql.info.password) as session:
        for statement in statements:
            session.execute(statement)
        yield session


def publish_and_drop(stage: Scene, table: str, statement: str) -> None:
    """Leave a table as a removed shape does: not in the publication any more, its identity FULL."""
    gone = stage.shape(table=table)
    gone.catch_up(stage.client)
    answer = stage.client.delete(stage.server.shape_url, params={"table": table, "handle": gone.handle or ""})
    assert answer.status_code == 202
    until_query(stage.sql, LEFT_PUBLICATION, table)
    stage.sql.execute(statement)


def until_waiting(stage: Scene) -> None:
    """Wait until a creation has told that it waits for writers."""
    path = stage.server.log_path
    until(lambda: "a creation waits for old writers" in path.read_text(), "the wait for writers")


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_a_writer_that_is_open_across_the_creation(database_url: str, workers: int, chunk_bytes: int) -> None:
    """Its first rows were written before the table was in the publication; the creation waits for it, and
    nobody else does.
    """
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        stage.sql.execute("CREATE TABLE quiet (id int PRIMARY KEY)")
        publish_and_drop(stage, "items", "INSERT INTO items VALUES (1)")
        shape = stage.shape(table="items")
        with open_writer(stage, "INSERT INTO items VALUES (2)") as writer:
            answer = stage.ask(shape)
            until_waiting(stage)
            quiet = stage.shape(table="quiet")
            quiet.catch_up(stage.client)
            assert not answer.done()
            writer.execute("INSERT INTO items VALUES (3)")
        answer.result()
        shape.catch_up(stage.client)
        stage.check([shape], "items")


def test_who_waits_for_a_writer_is_told_so_at_the_deadline(database_url: str) -> None:
    """The creation goes on after its caller's deadline; who asks again gets what it makes."""
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
    """Nobody's session any more, but a writer all the same; prepared before, committed after."""
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        publish_and_drop(stage, "items", "INSERT INTO items VALUES (1)")
        stage.sql.execute("BEGIN; INSERT INTO items VALUES (2); PREPARE TRANSACTION 'old'")
        shape = stage.shape(table="items")
        answer = stage.ask(shape)
        until_waiting(stage)
        assert not answer.done()
        stage.sql.execute("COMMIT PREPARED 'old'")
        answer.result()
        stage.sql.execute("BEGIN; INSERT INTO items VALUES (3); PREPARE TRANSACTION 'new'")
        shape.catch_up(stage.client)
        younger = stage.shape(table="items", replica="full")
        younger.catch_up(stage.client)
        stage.sql.execute("COMMIT PREPARED 'new'")
        stage.check([shape, younger], "items")


# --- partitions

PARTITIONED = """
CREATE TABLE parts (id int PRIMARY KEY, pad text, note text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE high (note text, id int NOT NULL PRIMARY KEY, dropped int, pad text);
ALTER TABLE high DROP COLUMN dropped;
ALTER TABLE parts ATTACH PARTITION high FOR VALUES FROM (100) TO (2000)
"""


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_a_writer_straight_into_a_leaf(database_url: str, workers: int, chunk_bytes: int) -> None:
    """It holds no lock on the root, and writes before the root is in the publication."""
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        stage.sql.execute(PARTITIONED)
        publish_and_drop(stage, "parts", "INSERT INTO low VALUES (1, 'a', 'b')")
        shape = stage.shape(table="parts")
        with open_writer(stage, "INSERT INTO high (id, pad, note) VALUES (102, 'c', 'd')") as writer:
            answer = stage.ask(shape)
            until_waiting(stage)
            assert not answer.done()
            writer.execute("INSERT INTO low VALUES (2, 'e', 'f')")
        answer.result()
        shape.catch_up(stage.client)
        stage.check([shape], "parts")


@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_leaves_of_every_layout_are_their_roots_rows(
    database_url: str, workers: int, chunk_bytes: int
) -> None:
    """A leaf with another order of columns, one that is attached while the root is followed, a row that moves
    from leaf to leaf.
    """
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        stage.sql.execute(PARTITIONED)
        stage.sql.execute("INSERT INTO parts VALUES (1, 'a', 'b'), (101, 'c', 'd')")
        shapes = [stage.shape(table="parts"), stage.shape(table="parts", where="id <> 7")]
        for shape in shapes:
            shape.catch_up(stage.client)
        for statement in (
            "INSERT INTO high VALUES ('n', 102, 'p')",
            "UPDATE parts SET note = 'new' WHERE id IN (1, 101)",
            "UPDATE parts SET id = 103 WHERE id = 1",
            "CREATE TABLE late (note text, pad text, id int NOT NULL)",
            "ALTER TABLE parts ATTACH PARTITION late FOR VALUES FROM (2000) TO (3000)",
            "INSERT INTO late VALUES ('m', 'o', 2001)",
            "INSERT INTO parts VALUES (2002, 'pad of 2002', 'note of 2002'), (2003, 'q', 'r')",
        ):
            stage.sql.execute(statement)
        for shape in shapes:
            stage.follow_to_row(shape, key("parts", 2003))
        until_query(stage.sql, "SELECT 1 FROM pg_class WHERE relname = 'late' AND relreplident = 'f'")
        stage.sql.execute("UPDATE parts SET pad = 'again' WHERE id > 100")
        stage.sql.execute("DELETE FROM late WHERE id = 2003")
        stage.check(shapes, "parts")
        for shape in shapes:
            assert shape.rows == selected_parts(stage.sql)


def selected_parts(sql: psycopg.Connection) -> dict[str, Row]:
    """The rows of the partitioned table."""
    rows = sql.execute("SELECT id, pad, note FROM parts").fetchall()
    return {key("parts", row[0]): {"id": str(row[0]), "pad": row[1], "note": row[2]} for row in rows}


@pytest.mark.parametrize("truncated", ["low", "parts"])
@pytest.mark.parametrize(("workers", "chunk_bytes"), MODES)
def test_truncating_a_leaf_ends_the_roots_shapes(
    database_url: str, workers: int, chunk_bytes: int, truncated: str
) -> None:
    """Of a leaf as of the root: rows go that nobody names."""
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        stage.sql.execute(PARTITIONED)
        stage.sql.execute("INSERT INTO parts VALUES (1, 'a', 'b'), (101, 'c', 'd')")
        shape = stage.shape(table="parts")
        shape.catch_up(stage.client)
        held = stage.ask(shape, live=True)
        stage.sql.execute(f"TRUNCATE {truncated}")
        with pytest.raises(Refetch):
            held.result()
            while True:
                shape.request(stage.client, live=True)
        again = stage.shape(table="parts")
        again.catch_up(stage.client)
        assert again.handle != shape.handle
        stage.check([again], "parts")


# --- long transactions

LONG = """
BEGIN;
INSERT INTO items SELECT {start} + i, repeat('y', 40) FROM generate_series(1, 1250) i;
SAVEPOINT one;
INSERT INTO items SELECT {start} + 5000 + i FROM generate_series(1, 1000) i;
UPDATE items SET pad = 'rolled back' WHERE id > {start};
ROLLBACK TO one;
INSERT INTO items SELECT {start} + 1250 + i FROM generate_series(1, 1250) i;
SAVEPOINT two;
UPDATE items SET pad = 'kept' WHERE id > {start};
RELEASE two;
COMMIT
"""


@pytest.mark.parametrize(
    ("workers", "chunk_bytes", "count"),
    [
        pytest.param(0, 1_000, 3, id="1kB"),
        pytest.param(2, 10_000, 10, id="10kB-workers"),
        pytest.param(0, 10_485_760, 24, id="default"),
    ],
)
def test_shapes_that_are_made_in_the_middle_of_long_transactions(
    database_url: str, workers: int, chunk_bytes: int, count: int
) -> None:
    """Transactions of 5,000 changes come in pieces; shapes are registered between the pieces, and each is
    told of all of a transaction or of none.
    """
    with scene(database_url, workers=workers, chunk_bytes_threshold=chunk_bytes) as stage:
        witness = stage.shape(table="items")
        witness.catch_up(stage.client)
        shapes = [stage.shape(table="items", where=f"id > -{number}") for number in range(1, count + 1)]
        with ThreadPoolExecutor(3) as threads:
            writing = threads.submit(write_long_transactions, stage, 2)
            for asked in [threads.submit(shape.request, stage.client) for shape in shapes]:
                asked.result()
            writing.result()
        stage.check([witness, *shapes], "items")
        for shape in [witness, *shapes]:
            assert lasts(shape.log) == {int(m["headers"]["lsn"]): 1 for m in shape.log}
            assert {len(places) for places in transactions(shape.log).values()} <= {5000, 1}


def write_long_transactions(stage: Scene, count: int) -> None:
    """Several, one after the other."""
    with psycopg.connect(stage.sql.info.dsn, password=stage.sql.info.password, autocommit=True) as sql:
        for number in range(1, count + 1):
            sql.execute(LONG.format(start=number * 10_000))


def transactions(log: list[dict[str, Any]]) -> dict[int, list[int]]:
    """The op positions of each transaction."""
    places: dict[int, list[int]] = {}
    for message in log:
        places.setdefault(int(message["headers"]["lsn"]), []).append(message["headers"]["op_position"])
    return places


def lasts(log: list[dict[str, Any]]) -> dict[int, int]:
    """How often each transaction was ended; only its final message may do so."""
    ends: dict[int, int] = {}
    for message, following in zip(log, [*log[1:], None], strict=True):
        lsn = int(message["headers"]["lsn"])
        is_final = following is None or int(following["headers"]["lsn"]) != lsn
        assert message["headers"].get("last", False) is is_final
        ends[lsn] = ends.get(lsn, 0) + int(is_final)
    return ends
