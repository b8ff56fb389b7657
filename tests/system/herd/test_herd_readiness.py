"""A cold start under a herd: requests come before the service can answer them."""

from __future__ import annotations

from collections import Counter

import psycopg
from tests.support.clients.herd import CREATE, stage

from pgshapes.embedded.server import EmbeddedPostgres
from pgshapes.gates.readiness import CONGESTED_FROM

CALLERS = 5000
HOLD = "SELECT pg_advisory_lock(hashtext(%s))"


def test_five_thousand_wait_for_readiness(logging_postgres: EmbeddedPostgres, workers: int) -> None:
    """Another instance has the lock on the database; when it goes, all are answered, for one creation. A
    thousand of a process are parked, the others poll.
    """
    options = {"ready_timeout_s": 60.0}
    with stage(logging_postgres, workers, options=options, is_launched=False) as env:
        table = env.table()
        with psycopg.connect(env.server.database_url, autocommit=True) as holder:
            holder.execute(HOLD, (env.server.slot,))
            env.server.launch()
            env.wait_until_up()
            with env.clients() as clients:
                clients.ask([env.path(table)] * CALLERS)
                env.until(
                    lambda: env.metric("readiness_parked") + env.metric("readiness_polling") == CALLERS,
                    "all to wait",
                )
                assert env.metric("readiness_parked") <= CONGESTED_FROM * env.processes
                assert env.metric("admission_in_use", kind="initial") == 0
                holder.execute("SELECT pg_advisory_unlock_all()")
                answers = clients.collect()
        assert Counter(answer.status for answer in answers) == {200: CALLERS}
        assert len({answer.handle for answer in answers}) == 1
        assert env.snapshot_queries(table) == 1
        assert env.calls(CREATE, table) <= env.processes
        assert env.metric("readiness_parked") + env.metric("readiness_polling") == 0
