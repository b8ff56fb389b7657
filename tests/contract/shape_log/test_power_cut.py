"""Power cuts at any moment: nothing durable is lost, and a replay results in the same files.

Each sync in the shape log is there because a test here fails without it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.shape_log.power_cut_scenario import Scenario
from tests.support.storage.descriptors import descriptors_left
from tests.support.storage.forgetful_files import ForgetfulFiles, forget


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


def test_what_could_not_be_synced_without_descriptors_is_synced_later(tmp_path: Path) -> None:
    """The twin must not lose more than a disk does."""
    root, durable = tmp_path / "root", tmp_path / "durable"
    root.mkdir()
    files, path = ForgetfulFiles(root, durable), str(root / "file")
    descriptor = files.open(path)
    files.write_at(descriptor, b"text", 0)
    files.close(descriptor)
    with descriptors_left(0):
        assert files.sync_files([path]).keys() == {path}
    assert files.sync_files([path]) == files.sync_directories([str(root)]) == {}
    forget(root, durable, 1, survival=0.0)
    assert Path(path).read_bytes() == b"text"


def test_a_twin_whose_start_was_killed_can_be_started_again(tmp_path: Path) -> None:
    root, durable = tmp_path / "root", tmp_path / "durable"
    root.mkdir()
    (root / "file").write_bytes(b"text")
    (durable / "durable").mkdir(parents=True)
    ForgetfulFiles(root, durable)
    forget(root, durable, 1, survival=0.0)
    assert (root / "file").read_bytes() == b"text"
