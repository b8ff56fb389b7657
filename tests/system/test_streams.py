"""Slots and streams that are not as ours: recreated with a reason, or a clear end."""

from __future__ import annotations

from pathlib import Path

import httpx
import psycopg
from tests.support.clients.materialised import Materialised
from tests.support.clients.pending import end_mark
from tests.support.servers.scene import ids, scene
from tests.support.servers.servers import Server, running_server

END_S = 60.0


def test_a_two_phase_slot_is_recreated(sql: psycopg.Connection, database_url: str) -> None:
    name = sql.info.dbname
    sql.execute(f"CREATE PUBLICATION electric_publication_{name}")
    sql.execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, true)", (f"electric_slot_{name}",)
    )
    with scene(database_url) as stage:
        said = stage.server.log_path.read_text()
        assert "replication slot cannot be used; all shapes are recreated" in said
        assert "it is two_phase" in said
        slots = "SELECT two_phase FROM pg_replication_slots WHERE slot_name = %s"
        assert sql.execute(slots, (stage.server.slot,)).fetchall() == [(False,)]
        shape = stage.shape(table="items")
        shape.catch_up(stage.client)
        for number, end in enumerate(("COMMIT", "ROLLBACK", "COMMIT"), 1):
            sql.execute(f"BEGIN; INSERT INTO items VALUES ({number}); PREPARE TRANSACTION '{name}'")
            sql.execute(f"{end} PREPARED '{name}'")
        stage.check([shape], "items")
        assert ids(shape.rows) == [1, 3, 999]


def test_a_message_that_cannot_be_read_ends_the_program_and_loses_nothing(
    sql: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    sql.execute("CREATE TABLE items (id int PRIMARY KEY, v text)")
    sql.execute(f"ALTER DATABASE {sql.info.dbname} SET logical_decoding_work_mem = '64kB'")
    module = "tests.support.servers.streaming_server"
    server = Server(database_url, tmp_path / "storage", module=module)
    for _ in range(2):
        server.launch()
        assert server.process is not None
        if sql.execute("SELECT FROM items LIMIT 1").fetchone() is None:
            server.wait_active()
            sql.execute("INSERT INTO items VALUES (0, 'small')")
            publish(server)
            sql.execute("INSERT INTO items SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i")
        assert server.process.wait(END_S) == 2
        last = server.log_path.read_text().splitlines()[-1]
        assert last.startswith("pgshapes: pgoutput of Postgres ")
        assert "unknown kind of pgoutput message b'S'" in last
        assert f"pg_drop_replication_slot('{server.slot}')" in last
        server.process = None
    with running_server(database_url, storage_dir=tmp_path / "storage") as again:
        shape = Materialised(again.shape_url, {"table": "items"})

        with httpx.Client() as client:
            shape.follow_until(client, end_mark(sql, "INSERT INTO items VALUES (5000, 'last')"))
        assert len(shape.rows) == 3002


def publish(server: Server) -> None:
    """Create a shape of the table."""

    with httpx.Client() as client:
        Materialised(server.shape_url, {"table": "items"}).catch_up(client)
