"""`python -m bench.hostile`: hostile connections of each kind at work against a server.

    python -m bench.hostile --workers 2 --connections 16 --seconds 15
    python -m bench.hostile --workers 0 --kind "slow reader"

For each kind, and for all at once, prints the slowest answer of `/v1/health` on a new connection, the growth
of the memory of all processes (resident size, the largest sample less the size before), and how many shapes
were lost. Silent connections are twice as many as there are descriptors (`--descriptors`). Attackers, server
and Postgres share the machine, and all addresses are loopback, so nobody has a share: it is the worst case.
The exit status is 1 if a bound is exceeded: 1 s, 100 MB, no shape lost.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import time
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

import click
from bench.proc import conditions
from tests.support.clients.hostile import KINDS, Target, at_work
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.servers.besieged import Besieged, besieged

from pgshapes.embedded.server import EmbeddedPostgres

SLOWEST_S: Final = 1.0
GROWTH_MB: Final = 100.0
SETTLE_S: Final = 2.0
ALL: Final = "all at once"


class Order(NamedTuple):
    """What the attacking process does."""

    target: Target
    numbers: dict[str, int]
    """Connections by kind; none ends the attack."""


class Result(NamedTuple):
    """What a kind did."""

    slowest_s: float
    growth_mb: float
    left_mb: float
    lost: int

    @property
    def is_good(self) -> bool:
        """Whether all bounds hold."""
        return self.slowest_s <= SLOWEST_S and self.growth_mb <= GROWTH_MB and not self.lost


def attack(pipe: Connection) -> None:
    """The attacking process: carry out each order until the next one."""
    asyncio.run(_attack(pipe))


async def _attack(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    order: Order | None = await loop.run_in_executor(None, pipe.recv)
    while order is not None:
        async with AsyncExitStack() as stack:
            for name, number in order.numbers.items():
                await stack.enter_async_context(at_work(KINDS[name], order.target, number))
            order = await loop.run_in_executor(None, pipe.recv)
        pipe.send("done")


def measure(scene: Besieged, pipe: Connection, numbers: dict[str, int], seconds: float) -> Result:
    """Attack for some seconds."""
    scene.read_logs()
    before = most = scene.memory_mb()
    pipe.send(Order(scene.target, numbers))
    slowest, ends = 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        slowest = max(slowest, scene.health_s())
        most = max(most, scene.memory_mb())
        time.sleep(0.1)
    pipe.send(Order(scene.target, {}))
    pipe.recv()
    time.sleep(SETTLE_S)
    return Result(slowest, most - before, scene.memory_mb() - before, scene.lost())


def run(workers: int, plan: dict[str, dict[str, int]], seconds: float, descriptors: int) -> bool:
    """Measure each part of the plan and print it; whether all bounds hold."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=attack, args=(its,), daemon=True)
    process.start()
    # The server inherits it; the attackers were started with more.
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    is_good = True
    with (
        EmbeddedPostgres(settings=SERVER_SETTINGS) as postgres,
        fresh_database(postgres) as url,
        besieged(url, workers=workers) as scene,
    ):
        print(f"{'kind':20}{'connections':>12}{'health s':>10}{'MB':>8}{'MB left':>9}{'lost':>6}", flush=True)
        for name, numbers in plan.items():
            found = measure(scene, ours, numbers, seconds)
            is_good &= found.is_good
            print(
                f"{name:20}{sum(numbers.values()):12}{found.slowest_s:10.2f}{found.growth_mb:8.0f}"
                f"{found.left_mb:9.0f}{found.lost:6}{'' if found.is_good else '  exceeded'}",
                flush=True,
            )
    ours.send(None)
    ours.recv()
    process.join()
    return is_good


@click.command()
@click.option("--workers", default=2, help="HTTP processes of the server.")
@click.option("--connections", default=16, help="Hostile connections of each kind.")
@click.option("--seconds", default=15.0, help="How long each kind is at work.")
@click.option("--descriptors", default=1024, help="Limit of open files of each process of the server.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice([*KINDS, ALL]), help="Only these kinds.")
def main(workers: int, connections: int, seconds: float, descriptors: int, kinds: tuple[str, ...]) -> None:
    """Attack a server and print what it does to it."""
    numbers = dict.fromkeys(KINDS, connections)
    numbers["silent"] = 2 * descriptors * max(workers, 1)
    plan = {name: {name: number} for name, number in numbers.items()} | {ALL: numbers}
    if kinds:
        plan = {name: plan[name] for name in kinds}
    print(f"conditions: {conditions()}; {workers} workers, {descriptors} descriptors", flush=True)
    raise SystemExit(0 if run(workers, plan, seconds, descriptors) else 1)


if __name__ == "__main__":
    main()
