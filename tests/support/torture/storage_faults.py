"""Faults of the disk under the server's logs."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from random import Random

from tests.support.storage.faulty_files import Failure, failing
from tests.support.torture.faults import fault
from tests.support.torture.world import World


@fault("disk", weight=1.5)
async def disk_full(world: World, chance: Random) -> None:
    """ENOSPC for some seconds. Nothing may be lost."""
    with failing(world.faults_dir, Failure.FULL):
        await asyncio.sleep(chance.uniform(1, 8))


@fault("disk")
async def disk_broken(world: World, chance: Random) -> None:
    """EIO for some seconds: a log that cannot be written or synced ends its shape."""
    failure = chance.choice((Failure.BROKEN, Failure.BROKEN_SYNC))
    with failing(world.faults_dir, failure):
        await asyncio.sleep(chance.uniform(0.5, 5))
    world.judge.demand("a log that could not be written or synced")


@fault("disk")
async def log_full(world: World, chance: Random) -> None:
    """ENOSPC for the log of the server, and perhaps for its files: they may be on one disk."""
    is_one_disk = chance.random() < 0.7
    with ExitStack() as stack:
        stack.enter_context(failing(world.faults_dir, Failure.LOG_FULL))
        if is_one_disk:
            stack.enter_context(failing(world.faults_dir, Failure.FULL))
        await asyncio.sleep(chance.uniform(1, 8))
