"""Cancels each task of a server at each point of each scenario, and counts what is held afterwards.

`python -m tests.support.cancellation.everywhere --rounds 10` does it as often, with all scenarios.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import structlog
from tests.support.cancellation.points import How, Point, Watch
from tests.support.cancellation.scenarios import SCENARIOS, Definition, Scenario, definition, make_tables
from tests.support.cancellation.stage import Stage, function_of, open_stage
from tests.support.clients.pending import WAIT_S
from tests.support.postgres.databases import SERVER_SETTINGS, fresh_database
from tests.support.postgres.installations import DEFAULT, postgres_of

from pgshapes.waiting.single_flight import SharedLookUps

_BY_THE_CLOCK = frozenset({"_beat_until_lost", "keep_running"})
"""Tasks that wait for a time: whether they do anything during a run is chance."""
_TRIES = 3
"""Runs for one point, until it is passed: whether a task waits somewhere depends on what was ready before."""


_numbers = itertools.count(1)


class Everywhere:
    """The runs on one stage. `points` were found; `missed` of them were not passed again, without those of
    tasks that wait for a time.
    """

    def __init__(self, stage: Stage, watch: Watch) -> None:
        self.stage = stage
        self.points: set[Point] = set()
        self.missed: set[Point] = set()
        self.cancelled: dict[How, set[str]] = {how: set() for how in How}
        """The tasks that were cancelled in each way and ended by it."""
        self._watch = watch
        self._made: list[Definition] = []
        self._look_ups = [one for one in gc.get_objects() if isinstance(one, SharedLookUps)]

    async def cancel_all(self, scenario: Scenario) -> None:
        """Run a scenario once for each of its points that no other had. Raises AssertionError.

        The points are those of two runs, in the first of which the server connects and reads the table anew.
        """
        await self._run(scenario, None, is_anew=True)
        found = dict.fromkeys(self._watch.points, True)
        await self._run(scenario, None)
        found |= dict.fromkeys(self._watch.points, False)
        for point in found.keys() - self.points:
            self.points.add(point)
            await self._cancel(scenario, point, is_anew=found[point])

    async def _cancel(self, scenario: Scenario, point: Point, *, is_anew: bool) -> None:
        for number in range(_TRIES):
            await self._run(scenario, point, is_anew=is_anew is (number % 2 == 0))
            task = self._watch.cancelled
            if task is not None:
                if task.cancelled():
                    self.cancelled[point.how].add(point.task)
                return
        if point.task not in _BY_THE_CLOCK:
            self.missed.add(point)

    async def check_again(self) -> None:
        """Each definition whose creation was cancelled has its rows. Raises AssertionError."""
        made, self._made = self._made, []
        await asyncio.gather(*(self._check_again(shape) for shape in made))
        await self._settle("the end")

    async def _check_again(self, shape: Definition) -> None:
        ids, _ = await shape.follow(self.stage)
        found = await asyncio.to_thread(self.stage.select, f"SELECT id FROM {shape.table} ORDER BY id")
        assert ids == [row[0] for row in found], shape

    async def _run(self, scenario: Scenario, point: Point | None, *, is_anew: bool = False) -> None:
        shape = definition(scenario.__name__, next(_numbers))
        self._made.append(shape)
        for look_ups in self._look_ups:
            look_ups._failures.clear()  # they answer for a second, and then most points are not reached
        run = await scenario(self.stage, shape)
        if is_anew:
            await self._forget(shape.table)
        await self._settle(f"{scenario.__name__}, not watched")
        before = _functions_of_tasks()
        self._watch.begin(point)
        try:
            async with asyncio.timeout(WAIT_S):
                await run()
            await self._settle(f"{scenario.__name__}: {point}", before)
        finally:
            self._watch.end()

    async def _forget(self, table: str) -> None:
        """Let the server connect and read the table again."""
        for pool in self.stage.pools().values():
            pool.close_idle()
        self.stage.replicator.sources.inspector.clean(None)
        await self.stage.run(f"ALTER TABLE {table} ALTER pad SET STATISTICS {next(_numbers) % 1000}")

    async def _settle(self, after: str, before: Counter[str] | None = None) -> None:
        """Wait until nothing is held. Raises AssertionError with what is held for much longer than anything
        takes that was cancelled.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S
        while held := self._held(before):
            assert loop.time() < deadline, f"{held} after {after}"
            await asyncio.sleep(0.002)

    def _held(self, before: Counter[str] | None) -> dict[str, object]:
        held = self.stage.held()
        if before is not None and (left := _functions_of_tasks() - before):
            held["tasks"] = left
        return held


def _functions_of_tasks() -> Counter[str]:
    return Counter(map(function_of, asyncio.all_tasks()))


async def cancel_everywhere(url: str, directory: Path, scenarios: Iterable[str]) -> Everywhere:
    """Cancel each task at each point of these scenarios. Raises AssertionError."""
    watch = Watch()
    watch.install(asyncio.get_running_loop())
    async with open_stage(url, directory) as stage:
        await make_tables(stage)
        everywhere = Everywhere(stage, watch)
        for name in scenarios:
            await everywhere.cancel_all(SCENARIOS[name])
        await everywhere.check_again()
        assert stage.excess_backends() == []
    return everywhere


def main() -> None:
    """Print how many points were cancelled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with postgres_of(DEFAULT, settings=SERVER_SETTINGS) as server:
        for number in range(options.rounds):
            for name in options.scenario or SCENARIOS:
                with fresh_database(server) as url, tempfile.TemporaryDirectory() as directory:
                    done = asyncio.run(cancel_everywhere(url, Path(directory), [name]))
                print(
                    f"round {number + 1}, {name}: {len(done.points)} points,"
                    f" {len(done.missed)} not passed again"
                )


if __name__ == "__main__":
    main()
