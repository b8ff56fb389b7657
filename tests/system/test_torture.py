"""Faults under load for about a minute: nothing is lost, doubled or disordered, and nobody refetches in vain.

`python -m bench.torture` runs as long as one likes, with all kinds of faults; see docs/torture.md. Here the
faults are those of a fixed seed, and a client has much more time than the server needs: nothing is timed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.postgres.installations import DEFAULT, chosen_version
from tests.support.torture.faults import weights
from tests.support.torture.plan import Draws
from tests.support.torture.run import Options, running, torture_postgres

FAULTS = 5
KINDS = (frozenset[str](), frozenset({"poison", "descriptors", "black_hole_for_good"}))
"""Of each batch, all in the first. The others are those that end what is shared, if they end anything."""
STUCK_S = 180.0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("workers", "seed"), [(0, 5636), (2, 5821)], ids=["one process", "workers"])
async def test_faults_under_load(workers: int, seed: int, tmp_path: Path) -> None:
    """After each batch of faults every client has the rows of a SELECT, and every message fitted."""
    version = chosen_version() or DEFAULT
    options = Options(seed=seed, workers=workers, version=version, writers=3, stuck_s=STUCK_S)
    with torture_postgres(version) as postgres:
        async with running(postgres, tmp_path, options) as run:
            for number, kinds in enumerate(KINDS, 1):
                draws = Draws(seed, weights(kinds, frozenset()), every_s=3, faults=FAULTS)
                await run.batch(draws.batch(number))
            totals = run.world.judge.totals
    print(f"seed {seed}, workers {workers}, log {tmp_path / 'storage.log'}\n{totals.report()}")
    assert not totals.violations, totals.violations[0]
    assert not totals.undemanded, totals.undemanded[0]
    assert totals.faults.total() == len(KINDS) * FAULTS
    assert KINDS[1] <= totals.faults.keys()
    assert totals.messages and totals.changes and totals.states
