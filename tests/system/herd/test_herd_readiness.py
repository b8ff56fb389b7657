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
    wishes = {"ready_timeout_s": 60.0}
    with stage(logging_postgres, workers, wishes=wishes, is_launched=False) as house:
        table = house.table()
        with psycopg.connect(house.server.database_url, autocommit=True) as holder:
            holder.execute(HOLD, (house.server.slot,))
            house.server.launch()
            house.wait_until_up()
            with house.clients() as clients:
                clients.ask([house.path(table)] * CALLERS)
                house.until(
                    lambda: house.metric("readiness_parked") + house.metric("readiness_polling") == CALLERS,
                    "all to wait",
                )
                assert house.metric("readiness_parked") <= CONGESTED_FROM * house.processes
                assert house.metric("admission_in_use", kind="initial") == 0
                holder.execute("SELECT pg_advisory_unlock_all()")
                answers = clients.collect()
        assert Counter(answer.status for answer in answers) == {200: CALLERS}
        assert len({answer.handle for answer in answers}) == 1
        assert house.snapshot_queries(table) == 1
        assert house.calls(CREATE, table) <= house.processes
        assert house.metric("readiness_parked") + house.metric("readiness_polling") == 0
