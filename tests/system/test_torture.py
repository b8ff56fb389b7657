"""Faults under load for about a minute: nothing is lost, doubled or disordered, and nobody refetches in vain.

`python -m bench.torture` runs as long as one likes; see docs/torture.md. Here each kind of fault strikes
once, in one of two runs, and a client has much more time than the server needs: nothing is timed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.support.postgres.installations import DEFAULT, chosen_version
from tests.support.torture.faults import weights
from tests.support.torture.plan import dealt
from tests.support.torture.run import Options, running, torture_postgres

SEED = 5636
RUNS = dealt(weights(frozenset(), frozenset()), SEED, hands=2, batches=2, every_s=2)
STUCK_S = 180.0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [0, 2], ids=["one process", "workers"])
async def test_faults_under_load(workers: int, tmp_path: Path) -> None:
    """After each batch of faults every client has the rows of a SELECT, and every message fitted."""
    version, batches = chosen_version() or DEFAULT, RUNS[workers > 0]
    options = Options(seed=SEED, workers=workers, version=version, writers=3, stuck_s=STUCK_S)
    with torture_postgres(version) as postgres:
        async with running(postgres, tmp_path, options) as run:
            for batch in batches:
                await run.batch(batch)
            totals = run.world.judge.totals
    print(f"workers {workers}, log {tmp_path / 'storage.log'}\n{totals.report()}")
    assert not totals.violations, totals.violations[0]
    assert not totals.undemanded, totals.undemanded[0]
    assert totals.left_sse == 0
    assert totals.faults == Counter(fault.kind for batch in batches for fault in batch.faults)
    assert totals.messages and totals.changes and totals.states
