"""Partitioned tables: rows are in leaves, shapes may be on the root, a leaf, or a level between."""

from __future__ import annotations

import psycopg
import pytest
from tests.support.clients.materialised import Refetch, Row
from tests.support.clients.pending import end_mark, until_query
from tests.support.servers.scene import (
    MODES,
    has_waited,
    ids,
    key,
    open_writer,
    publish_and_drop,
    scene,
    until_waiting,
)

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
            until_waiting(stage, answer)
            writer.execute("INSERT INTO low VALUES (2, 'e', 'f')")
        answer.result()
        shape.catch_up(stage.client)
        stage.check([shape], "parts")
        assert has_waited(stage)


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
        ):
            stage.sql.execute(statement)
        # Written to before it was seen, it might have had rows when it was attached.
        until_query(stage.sql, "SELECT 1 FROM pg_class WHERE relname = 'late' AND relreplident = 'f'")
        stage.sql.execute("INSERT INTO late VALUES ('m', 'o', 2001)")
        stage.sql.execute("INSERT INTO parts VALUES (2002, 'pad of 2002', 'note of 2002'), (2003, 'q', 'r')")
        for shape in shapes:
            stage.follow_to_row(shape, key("parts", 2003))
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
    """Both the leaf's and the root's: the removed rows are not in the stream."""
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


def test_a_leaf_feeds_shapes_of_its_own_and_of_every_table_above(database_url: str) -> None:
    """In any order of creation."""
    with scene(database_url) as stage:
        stage.sql.execute(
            "CREATE TABLE top (id int, a int, PRIMARY KEY (id, a)) PARTITION BY RANGE (id);"
            "CREATE TABLE middle PARTITION OF top FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (a);"
            "CREATE TABLE leaf PARTITION OF middle DEFAULT"
        )
        shapes = [stage.shape(table=table) for table in ("leaf", "top", "middle")]
        for shape in shapes:
            stage.sql.execute("INSERT INTO top SELECT coalesce(max(id), 0) + 1, 0 FROM top")
            shape.catch_up(stage.client)
        stage.sql.execute("UPDATE middle SET a = 1; DELETE FROM leaf WHERE id = 2")
        lsn = end_mark(stage.sql, "INSERT INTO top VALUES (999, 0)")
        for shape in shapes:
            shape.follow_until(stage.client, lsn)
            assert ids(shape.rows) == [1, 3, 999]
        stage.sql.execute("TRUNCATE leaf")
        for shape in shapes:
            with pytest.raises(Refetch):
                while True:
                    shape.request(stage.client, live=True)


def test_a_leaf_that_was_announced_before_the_shape_existed(database_url: str) -> None:
    """The stream does not announce it again for a shape that is created after the earlier one was removed."""
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute(PARTITIONED)
        sql.execute("ALTER TABLE low REPLICA IDENTITY FULL; ALTER TABLE high REPLICA IDENTITY FULL")
        sql.execute("ALTER TABLE parts REPLICA IDENTITY FULL")
        name = f"electric_publication_{sql.info.dbname}"
        sql.execute(f"CREATE PUBLICATION {name} FOR TABLE parts")
    with scene(database_url, manual_table_publishing=True) as stage:
        gone = stage.shape(table="parts")
        gone.catch_up(stage.client)
        stage.sql.execute("INSERT INTO parts VALUES (1, 'a', 'b'), (101, 'c', 'd')")
        stage.follow_to_row(gone, key("parts", 101))
        definition = {"table": "parts", "handle": gone.handle or ""}
        assert stage.client.delete(stage.server.shape_url, params=definition).status_code == 202
        shape = stage.shape(table="parts")
        shape.catch_up(stage.client)
        stage.sql.execute("INSERT INTO parts VALUES (2, 'e', 'f'), (102, 'g', 'h')")
        stage.check([shape], "parts")
        assert shape.rows == selected_parts(stage.sql)
