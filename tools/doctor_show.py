"""Print what `pgshapes doctor` says about five databases: `python -m tools.doctor_show`.

A fresh one, one whose role owns nothing, one behind a transaction pooler, a standby, and one without logical
decoding. The pooler is the PgBouncer of the tests; where that cannot be had, its part is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit

import psycopg
from tests.support.pooler.installation import FOLDER, REASON
from tests.support.pooler.pgbouncer import pgbouncer
from tests.support.postgres.roles import as_role
from tests.support.postgres.standby import streaming_standby

from pgshapes.embedded.server import EmbeddedPostgres

TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers);
CREATE TABLE visits (at timestamptz, path text);
CREATE UNLOGGED TABLE sessions (id uuid PRIMARY KEY);
CREATE VIEW totals AS SELECT customer, count(*) FROM orders GROUP BY 1;
CREATE ROLE app LOGIN PASSWORD 'app';
GRANT SELECT ON customers, orders TO app;
"""


def show(title: str, url: str, *arguments: str) -> None:
    """Run it on a database and print its output below a title."""
    print(f"== {title}\n", flush=True)
    command = [sys.executable, "-m", "pgshapes.cli", "doctor", *arguments]
    done = subprocess.run(command, env={**os.environ, "DATABASE_URL": url}, check=False)
    print(f"exit status {done.returncode}\n", flush=True)


def main() -> None:
    """Make the databases, one after the other."""
    with EmbeddedPostgres() as postgres:
        show("a fresh database", postgres.url())
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(TABLES)
        show("a role that owns nothing", as_role(postgres.url(), "app", "app"))
        show_pooler(postgres)
        with streaming_standby(postgres) as standby:
            show("a standby", standby.url(), "--table", "orders")
    with EmbeddedPostgres(settings={"wal_level": "replica"}) as postgres:
        show("a server without logical decoding", postgres.url())


def show_pooler(postgres: EmbeddedPostgres) -> None:
    """Through a pooler as the only URL, and as the one for snapshots."""
    if REASON.exists() or not FOLDER.exists():
        print("== a transaction pooler: left out, run python -m tests.support.pooler.installation\n")
        return
    parts = urlsplit(postgres.url())
    with pgbouncer(postgres.port, {"postgres": parts.password or ""}) as port:
        pooled = as_role(
            parts._replace(netloc=f"127.0.0.1:{port}").geturl(), "postgres", parts.password or ""
        )
        show("a transaction pooler as database_url", pooled, "--table", "orders")
        arguments = ("--pooled-database-url", pooled, "--table", "orders")
        show("a transaction pooler as pooled_database_url", postgres.url(), *arguments)


if __name__ == "__main__":
    main()
