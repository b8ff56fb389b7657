"""Whatever task is cancelled, wherever it waits: nothing stays held, and the shape can be created.

Each task that begins in a scenario is cancelled at each place at which it waits, before its first step
included; the places are found by watching a run without a cancellation. Then everything that can be held is
counted: connections and their transactions, places, slots, permits, locks, files, tasks, waits.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.cancellation.everywhere import cancel_everywhere
from tests.support.cancellation.scenarios import SCENARIOS

GROUPS = [
    ("creation", "creation_by_two", "creation_of_changes", "subset"),
    ("live", "stream", "removal", "refusal"),
    ("truncate", "first_of_table"),
]


def test_every_scenario_is_in_a_group() -> None:
    assert sorted(name for group in GROUPS for name in group) == sorted(SCENARIOS)


@pytest.mark.slow
@pytest.mark.parametrize("scenarios", GROUPS, ids=lambda group: group[0])
async def test_nothing_is_held_after_a_cancellation(
    database_url: str, tmp_path: Path, scenarios: tuple[str, ...]
) -> None:
    done = await cancel_everywhere(database_url, tmp_path, scenarios)
    tasks = {point.task for point in done.points}
    assert {"ShapeApp.__call__", "_result_of", "Creations._run"} - tasks == set()
    assert len(done.points) > 60
