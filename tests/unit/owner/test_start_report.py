"""What a server needs of its database is counted, before it is there."""

from __future__ import annotations

import pytest

from pgshapes.config import Settings
from pgshapes.owner.start_report import needs_of


@pytest.mark.parametrize(("workers", "connections"), [(0, 64), (2, 65), (8, 77)])
def test_the_connections_include_one_to_check_each_session(workers: int, connections: int) -> None:
    """20 of the pools, 5 for subsets or 1 in each process, 4 that alter the publication, the walsender and
    the lock, each of them checked; and one in each process that searches for sessions that wait.
    """
    settings = Settings(
        database_url="postgresql://localhost/none", insecure=True, db_pool_size=20, workers=workers
    )
    assert needs_of(settings).connections == connections
