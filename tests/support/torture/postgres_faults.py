"""Faults of Postgres and of the network between it and the server."""

from __future__ import annotations

import asyncio
import os
import signal
from random import Random

from tests.support.postgres.proxy import Direction
from tests.support.torture.faults import fault
from tests.support.torture.world import World

SILENCE_S = 10
"""`wal_sender_timeout` of the harness: by then a silent connection must have been given up."""

OURS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND application_name ILIKE '%pgshapes%' ORDER BY pid"
)


@fault("postgres", weight=2)
async def terminate_backend(world: World, chance: Random) -> None:
    """`pg_terminate_backend` of one of the server's backends, or of all."""
    place, is_all = chance.random(), chance.random() < 0.3
    pids = [pid for (pid,) in await world.execute(OURS)]
    if pids:
        for pid in pids if is_all else [pids[int(place * len(pids))]]:
            await world.execute(f"SELECT pg_terminate_backend({pid})")


@fault("postgres")
async def postgres_fast(world: World, chance: Random) -> None:
    """A fast shutdown, and a start after up to 3 s."""
    pause_s = chance.uniform(0, 3)
    async with world.postgres_lock:
        await asyncio.to_thread(world.postgres.stop)
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(world.postgres.start)


@fault("postgres")
async def postgres_immediate(world: World, chance: Random) -> None:
    """An immediate shutdown, which Postgres recovers from."""
    pause_s = chance.uniform(0, 3)
    async with world.postgres_lock:
        os.kill(world.postgres.pid, signal.SIGQUIT)
        while world.postgres.is_running:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(world.postgres.stop)  # closes the pipe to what has ended
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(world.postgres.start)


@fault("postgres")
async def postgres_kill(world: World, chance: Random) -> None:
    """kill -9 of all processes of Postgres."""
    async with world.postgres_lock:
        await asyncio.to_thread(world.postgres.kill)
        await asyncio.to_thread(world.postgres.start)


@fault("postgres")
async def halt_walsender(world: World, chance: Random) -> None:
    """SIGSTOP of the walsender, for up to 12 s: longer than it may be silent."""
    for_s = chance.uniform(1, 12)
    find = f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{world.server.slot}' AND active"
    for (pid,) in await world.execute(find):
        world.signal(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
        finally:
            world.signal(pid, signal.SIGCONT)


@fault("network", weight=1.5)
async def cut(world: World, chance: Random) -> None:
    """All connections to Postgres end, with RST or FIN."""
    world.proxy.cut(resets=chance.random() < 0.5)


@fault("network")
async def half_close(world: World, chance: Random) -> None:
    """One half of each connection ends."""
    world.proxy.end(chance.choice(list(Direction)))


@fault("network")
async def black_hole(world: World, chance: Random) -> None:
    """Nothing arrives any more on the present connections, for some seconds; then all does."""
    world.proxy.hold()
    try:
        await asyncio.sleep(chance.uniform(3, 9))
    finally:
        world.proxy.let_flow()


@fault("network")
async def black_hole_for_good(world: World, chance: Random) -> None:
    """Nothing arrives any more on the present connections, and nobody closes them."""
    world.proxy.abandon()
    await asyncio.sleep(SILENCE_S)


@fault("network")
async def slow_network(world: World, chance: Random) -> None:
    """Every piece takes up to a second longer, for some seconds."""
    world.proxy.delay(chance.uniform(0.05, 1))
    try:
        await asyncio.sleep(chance.uniform(2, 6))
    finally:
        world.proxy.delay(0)


@fault("network")
async def refused(world: World, chance: Random) -> None:
    """Connections end and new ones are reset, for some seconds."""
    world.proxy.refuse(refuses=True)
    world.proxy.cut(resets=True)
    try:
        await asyncio.sleep(chance.uniform(1, 8))
    finally:
        world.proxy.refuse(refuses=False)
