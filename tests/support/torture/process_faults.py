"""Faults of processes: killed, stopped, halted; and a power cut, which loses what was not synced, too."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from pathlib import Path
from random import Random

from tests.support.servers.forgetful_server import durable_root
from tests.support.storage.forgetful_files import forget
from tests.support.torture.faults import fault
from tests.support.torture.world import World

STOP_S = 60.0


def _any_process(world: World, chance: Random) -> int | None:
    place = chance.random()
    processes = world.processes()
    return processes[int(place * len(processes))] if processes else None


@fault("process", weight=3)
async def kill(world: World, chance: Random) -> None:
    """kill -9 of one process."""
    pid = _any_process(world, chance)
    if pid is not None:
        world.let_end()
        world.signal(pid, signal.SIGKILL)


@fault("process", weight=2)
async def kill_replicator(world: World, chance: Random) -> None:
    """kill -9 of the process that writes."""
    processes = world.processes()
    if processes:
        world.let_end()
        world.signal(processes[min(1, len(processes) - 1)], signal.SIGKILL)


@fault("process")
async def kill_all(world: World, chance: Random) -> None:
    """kill -9 of all processes at once, and a start a moment later."""
    pause_s = chance.random()
    async with world.server_lock:
        await world.kill_server()
        await asyncio.sleep(pause_s)
        world.launch_server()


@fault("process")
async def terminate(world: World, chance: Random) -> None:
    """SIGTERM, and a start when all have ended."""
    async with world.server_lock:
        process = world.server.process
        if process is None or process.poll() is not None:
            return
        world.signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while process.poll() is None:
                    await asyncio.sleep(0.05)
        if process.poll() is None:
            world.judge.violate(
                "no end after SIGTERM", "server", f"{STOP_S} s: {world.server.log_end()[-800:]}"
            )
            await world.kill_server()
        await world.until_gone(process.pid)
        world.launch_server()


@fault("process")
async def terminate_child(world: World, chance: Random) -> None:
    """SIGTERM to one process."""
    pid = _any_process(world, chance)
    if pid is not None:
        world.let_end(60)
        world.signal(pid, signal.SIGTERM)


@fault("process", weight=2)
async def halt(world: World, chance: Random) -> None:
    """SIGSTOP of one process for up to 12 s."""
    pid, for_s = _any_process(world, chance), chance.uniform(0.5, 12)
    if pid is None:
        return
    world.signal(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(for_s)
    finally:
        world.signal(pid, signal.SIGCONT)


@fault("power", weight=2)
async def power_cut(world: World, chance: Random) -> None:
    """All processes end, and a random part of what was not synced is lost."""
    seed, survival, pause_s = chance.getrandbits(32), chance.choice((0.0, 0.5, 0.9)), chance.random()
    storage = world.server.storage_dir
    async with world.server_lock:
        await world.kill_server()
        if durable_root(storage).exists():
            await asyncio.to_thread(forget, storage / "logs", durable_root(storage), seed, survival=survival)
        await asyncio.sleep(pause_s)
        world.launch_server()


@fault("descriptors")
async def descriptors(world: World, chance: Random) -> None:
    """One process can open hardly any more files for some seconds."""
    pid, for_s, spare = _any_process(world, chance), chance.uniform(2, 8), chance.choice((0, 1, 3))
    if pid is None:
        return
    with contextlib.suppress(OSError):
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        limit = _highest_descriptor(pid) + 1 + spare
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            await asyncio.sleep(for_s)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def _highest_descriptor(pid: int) -> int:
    return max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
