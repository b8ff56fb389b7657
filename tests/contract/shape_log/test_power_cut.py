"""Power cuts at any moment: nothing durable is lost, and a replay results in the same files.

Each sync in the shape log is there because a test here fails without it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.shape_log.power_cut_scenario import Scenario


@pytest.mark.parametrize("seed", range(12))
async def test_power_cuts_at_any_moment(tmp_path: Path, seed: int) -> None:
    scenario = Scenario(tmp_path, seed)
    for _ in range(6):
        await scenario.live(steps=25, operations=scenario.chance.randrange(20, 900))
        scenario.cut_power()


@pytest.mark.parametrize("seed", range(6))
async def test_kills_and_power_cuts(tmp_path: Path, seed: int) -> None:
    """Recovery after a kill keeps what is in the page cache, so it must make it durable."""
    scenario = Scenario(tmp_path, seed)
    for _ in range(4):
        await scenario.live(steps=15, operations=scenario.chance.randrange(20, 900))
        scenario.restart()
        await scenario.live(steps=scenario.chance.randrange(4), operations=400)
        scenario.cut_power()
